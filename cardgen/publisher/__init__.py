"""Cards published by pull request: git in `git`, the forge's API in `github`, all that decides in between pure."""
