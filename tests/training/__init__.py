import training  # noqa: F401  before peft, as in the program: it filters what bitsandbytes logs
