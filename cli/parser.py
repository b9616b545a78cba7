"""How the command line is read, in two passes: the first looks at --mode only, the second builds
the parser of that mode, so that help and errors are about its flags alone."""

import argparse
import difflib
import re
import shutil
from typing import NamedTuple

import absl.flags
import absl.logging  # defines --v, --verbosity, --log_dir and others
from absl.flags import argparse_flags

from ..common.errors import UsageError
from ..common.version import __version__
from .flags import FLAGS, MODES, STUDIES, mode_of, one_of

MODE = one_of(*MODES)
ALIKE = {"run_dir": "output", "output": "run_dir", "epochs": "steps"}  # taken for each other
EXAMPLES = """examples:
  {0} --model=ragan --dataset=cifar10
  {0} --mode=sample --model=ragan --weights=cifar10 --output=grid.png
  {0} --mode=evaluate --weights=runs/ragan-cifar10 --metrics=fid,kid
"""
ABSL = "Log lines: --v=1, --log_dir=FOLDER and other flags of absl; --helpfull lists them."


class Command(NamedTuple):
    """mode: its name. given: {name: value} of the flags that were given, checked."""

    mode: str
    given: dict


def parse(arguments, program="main.py"):
    """A `Command` of a list of arguments.

    Raises UsageError for a mistake. --help and --version print and raise SystemExit.
    """
    log_flags = _log_flags()
    try:
        arguments = log_flags.read_flags_from_files(arguments, force_gnu=True)  # --flagfile
        for argument in arguments:
            joined = re.match(r"--\w+.*?(--(\w+)=)", argument)
            if joined and joined[2] in FLAGS:
                raise UsageError(f"{argument}: a space is missing before {joined[1]}")
        first = _Parser(allow_abbrev=False, add_help=False, inherited_absl_flags=None)
        for name in ("mode", "study"):
            first.add_argument(f"--{name}", type=FLAGS[name].check if name in FLAGS else MODE)
        first.add_argument("--version", action="store_true")
        chosen = first.parse_known_args(arguments)[0]
        if chosen.version:
            print(f"attention-zoo {__version__}")
            raise SystemExit(0)
        if chosen.mode is None and _HELP & set(arguments):
            print(overview(program))
            raise SystemExit(0)
        mode, study = chosen.mode or "train", chosen.study
        parser = make_parser(mode, study, program, log_flags)
        given, others = parser.parse_known_args(arguments)
    except absl.flags.Error as error:
        raise UsageError(str(error).removeprefix("ERROR:: ")) from None
    if others:
        raise UsageError(_unknown(others[0], mode, study, log_flags))
    absl.flags.FLAGS.mark_as_parsed()
    given = vars(given)
    del given["mode"]
    about = mode_of(mode, study)
    lacking = [_example(name, about) for name in about.required.split() if name not in given]
    if lacking:
        raise UsageError(f"{_called(mode, study)} needs {' and '.join(lacking)}")
    return Command(mode, given)


_HELP = {"-h", "--help", "--helpshort", "--helpfull"}


def overview(program):
    """The help without a mode."""
    modes = "\n".join(f"  {name:<11}{mode.summary}" for name, mode in MODES.items())
    command = _command(program)
    return (
        f"usage: {command} [--mode=MODE] [--FLAG=VALUE ...]\n\n"
        f"Attention-guided image models in Keras 3 and TensorFlow.\n\n"
        f"modes (default: train):\n{modes}\n\n"
        f"The flags of a mode: {command} --mode=MODE --help, such as --mode=train --help\n"
        f"The version: {command} --version\n\n"
        f"{EXAMPLES.format(command).rstrip()}"
    )


def make_parser(mode, study=None, program="main.py", log_flags=None):
    """The parser of one mode, or of one study. It leaves out what is not given."""
    command, about = _command(program), mode_of(mode, study)
    epilog = ABSL
    if mode == "study" and not study:
        studies = "\n".join(f"  {name:<15}{one.question}" for name, one in STUDIES.items())
        epilog = f"studies (--study=NAME --help shows the flags of one):\n{studies}\n\n{ABSL}"
    parser = _Parser(
        allow_abbrev=False,
        usage=f"{command} {_called(mode, study)} [--FLAG=VALUE ...]",
        description=f"{about.summary[0].upper()}{about.summary[1:]}{'' if study else '.'}",
        epilog=epilog,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Formatter,
        add_help=False,
        inherited_absl_flags=_log_flags() if log_flags is None else log_flags,
    )
    parser.add_argument("--mode", type=MODE, default="train", help=argparse.SUPPRESS)
    for title, names in about.groups.items():
        group = parser.add_argument_group(title)
        for name in names.split():
            flag = FLAGS[name]
            kinds = {"switch": {"action": "store_true"}, "repeated": {"action": "append"}}
            how = kinds.get(flag.kind, {})
            if flag.kind != "switch":
                metavar = about.metavars.get(name, flag.metavar)
                how = {**how, "type": flag.check, "metavar": metavar}
            group.add_argument(f"--{name}", help=about.help(name).replace("%", "%%"), **how)
    parser.add_argument(  # absl knows it as -v and --verbosity
        "--v",
        action=argparse_flags._FlagAction,
        metavar="LEVEL",
        help=argparse.SUPPRESS,
        flag_instance=parser._inherited_absl_flags["verbosity"],
    )
    group = parser.add_argument_group("help")
    group.add_argument("-h", "--help", "--helpshort", action="help", help="print this")
    group.add_argument(
        "--helpfull", action=argparse_flags._HelpFullAction, help="print the flags of absl too"
    )
    return parser


class _Parser(argparse_flags.ArgumentParser):
    """A parser whose errors are UsageErrors in plain words."""

    def print_help(self, file=None):
        print(self.format_help(), end="", file=file)  # argparse would lose an error

    def error(self, message):
        flag, colon, problem = message.removeprefix("argument ").partition(": ")
        flag = flag.split("/")[-1]  # of "-v/--verbosity"
        if problem == "expected one argument":
            problem = "needs a value"
        elif problem.startswith("ignored explicit argument"):
            problem = "takes no value"
        raise UsageError(f"{flag} {problem}" if colon else message)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows --NAME=VALUE on a line, the explanation below it."""

    def __init__(self, prog):
        width = min(shutil.get_terminal_size().columns, 100)
        super().__init__(prog, max_help_position=6, width=width - 2)

    def _format_action_invocation(self, action):
        if action.nargs == 0:
            return ", ".join(action.option_strings[:2])
        return f"{action.option_strings[0]}={action.metavar}"


def _log_flags():
    """The flags that absl.logging defines, at their defaults; not those of other packages."""
    found = absl.flags.FlagValues()
    for flag in absl.flags.FLAGS.flags_by_module_dict()["absl.logging"]:
        flag.unparse()
        found[flag.name] = flag
        found.register_flag_by_module("absl.logging", flag)
    return found


def _unknown(argument, mode, study, log_flags):
    """The sentence for an argument that the mode, or the study, does not take."""
    lists = f"{_called(mode, study)} --help lists the flags"
    flag = argument.partition("=")[0]
    name, own = flag.lstrip("-"), mode_of(mode, study).flags
    if name == flag:
        guess = f"--mode={name}" if name in MODES else None
        if argument != flag:
            guess = (
                f"--{argument}" if name in own else "--set=" + argument if "set" in own else None
            )
        return f"{argument!r} is not a flag: {f'did you mean {guess}?' if guess else lists}"
    if flag.startswith("--") and name in MODES[mode].flags:
        return f"--{name} does not go with --study={study}: {lists}"
    if flag.startswith("--") and ALIKE.get(name) in own:
        return f"--mode={mode} does not use {flag}: did you mean --{ALIKE[name]}? {lists}"
    if flag.startswith("--") and name in FLAGS:
        return f"--mode={mode} does not use --{name}; {_modes_with(name)}"
    for names in (["mode", "help", *own], list(log_flags)):
        for close in difflib.get_close_matches(name, names, 1):
            return f"{flag}: did you mean --{close}? {lists}"
    for close in difflib.get_close_matches(name, FLAGS, 1):
        guess = f"did you mean --{close}? --mode={mode} does not use it"
        return f"{flag}: {guess}; {_modes_with(close)}"
    if "set" in own and argument.startswith(f"--{name}="):
        lists = f"did you mean --set {argument[2:]}? {lists}"
    return f"unknown flag {flag}: {lists}"


def _modes_with(name):
    """ "--mode=train and study do": which modes take a flag."""
    modes = [mode for mode, about in MODES.items() if name in about.flags]
    start, end = ", ".join(modes[:-1]), modes[-1]
    return f"--mode={start} and {end} do" if start else f"--mode={end} does"


def _called(mode, study):
    """ "--mode=MODE", or "--mode=study --study=STUDY"."""
    return f"--mode={mode} --study={study}" if mode == "study" and study else f"--mode={mode}"


def _example(name, about):
    """ "--NAME=WHAT" of a flag of a Mode."""
    names = getattr(FLAGS[name].check, "names", None)
    metavar = about.metavars.get(name, FLAGS[name].metavar)
    return f"--{name}={'|'.join(names) if names else metavar}"


def _command(program):
    return f"python {program}" if program.endswith(".py") else program
