"""The screens: pure functions from a scene, a selection and words to markup."""
