"""The options of an experiment: parsing, printing, comparing."""

import dataclasses
import json

import numpy as np
import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from robustjax import own_code
from robustjax.config import TrainConfig
from robustjax.flags import config_from_flags, define_flags, read_flags
from robustjax.text import format_value, parse_number


def parse(*arguments):
    values = flags.FlagValues()
    define_flags(values)
    values(["program", *arguments])
    return config_from_flags(values)


def test_no_flags_are_the_defaults():
    assert parse() == TrainConfig()


def test_fractions_are_numbers():
    config = parse("--epsilon=8/255", "--step_size=0.007", "--decay_epochs=75,90")
    assert config.epsilon == 8 / 255
    assert config.step_size == 0.007
    assert config.decay_epochs == (75.0, 90.0)


@pytest.mark.parametrize("text", ["eight", "8/0", "8/255/2", "", "1,2"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a number such as 0.031 or 8/255"):
        parse_number(text)


def test_a_wrong_number_names_the_flag():
    with pytest.raises(flags.IllegalFlagValueError, match="epsilon.*8/256a"):
        parse("--epsilon=8/256a")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--norm=l0", "norm=l0: accepted are linf, l2, l1"),
        ("--epochs=0", "epochs=0: accepted are whole numbers, 1 to"),
        ("--epsilon=-1", "epsilon=-1.0: accepted are finite numbers, 0 or more"),
        ("--momentum=1", "momentum=1.0: accepted are 0 to less than 1"),
        ("--precision=float16", "precision=float16: accepted are float32, bfloat16"),
        ("--holdout=-2", "holdout=-2: accepted are"),
        ("--learning_rate=0", "learning_rate=0.0: accepted are more than 0"),
        ("--learning_rate=inf", "learning_rate=inf: accepted are finite numbers"),
        ("--decay_epochs=5,inf", "decay_epochs=inf: accepted are finite numbers"),
        ("--warmup_epochs=nan", "warmup_epochs=nan: accepted are finite numbers"),
        ("--cpu_devices=-1", "cpu_devices=-1: accepted are whole numbers, 0 to 1024"),
        ("--activation=foo", "activation=foo: accepted are"),
        ("--early_stop=mask", "early_stop=mask: accepted are .*scan, compact"),
        ("--schedule=cosin", "schedule=cosin: accepted are.*did you mean 'cosine'"),
        ("--seed=99999999999999999999", "seed=99999999999999999999: accepted are .* 4294967295"),
        # JAX keeps 32 bits of a seed: these would be 0 and 1 again.
        ("--seed=4294967296", "seed=4294967296: accepted are whole numbers, 0 to 4294967295"),
        ("--steps=3000000000", "steps=3000000000: accepted are whole numbers"),
        ("--cpu_devices=100000", "cpu_devices=100000: accepted are whole numbers, 0 to 1024"),
        ("--classes=3.5,4", "classes=3.5: accepted are whole numbers"),
        ("--sparsity=0.1", "sparsity=0.1 with norm=linf: accepted is norm=l1 alone"),
        ("--sparsity=1.5", "sparsity=1.5: accepted are 0 to 1"),
        ("--steps_schedule=0.5", "steps_schedule=0.5: accepted are whole numbers"),
        ("--steps_schedule=1,2.5@3", "steps_schedule=2.5: accepted are whole numbers"),
        ("--epsilon_schedule=nan", "epsilon_schedule='nan': accepted are"),
        ("--epsilon_schedule=0..inf@10", "epsilon_schedule='0..inf@10': accepted are"),
        ("--epsilon_schedule=0,1@nan", "epsilon_schedule='0,1@nan': accepted are"),
        ("--epsilon_schedule=0,1@1e999", "epsilon_schedule='0,1@1e999': accepted are"),
        ("--beta=1e999", "beta=inf: accepted are finite numbers"),
    ],
)
def test_values_out_of_range_are_named(argument, message):
    with pytest.raises(ValueError, match=message):
        parse(argument)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": "8/255"}, "epsilon=8/255: accepted are finite numbers"),
        ({"epochs": 1.5}, "epochs=1.5: accepted are whole numbers"),
        ({"epochs": True}, "epochs=True: accepted are whole numbers"),
        ({"method": None}, "method=None: accepted is a text"),
        ({"remat": 1}, "remat=1: accepted is true or false"),
        ({"decay_factors": [0.1]}, "decay_factors=.* accepted is a tuple"),
        ({"decay_epochs": ("5",)}, "decay_epochs=5: accepted are finite numbers"),
        ({"set": "a=1"}, "set=a=1: accepted is a tuple"),
        ({"beta": 10**400}, "beta=1000.*401 characters.: accepted are finite numbers"),
        ({"beta": 10**5000}, "beta=.a number of some 5000 digits.: accepted are finite"),
        # What a line of a flag file could not hold, or would give back otherwise.
        ({"data_dir": "two\nlines"}, r"data_dir='two\\nlines': accepted is a text of one line"),
        ({"workdir": "runs/a "}, "workdir=runs/a : accepted is a text of one line"),
    ],
)
def test_values_of_another_type_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_numbers_of_numpy_are_stored_and_written_as_python_s():
    given = {"epochs": np.int64(5), "epsilon": np.float64(8 / 255), "nesterov": np.bool_(True)}
    config = TrainConfig(**given, beta=np.float32(6), decay_epochs=(np.int32(3), np.float64(4.5)))
    plain = TrainConfig(epochs=5, epsilon=8 / 255, nesterov=True, beta=6.0, decay_epochs=(3, 4.5))
    assert config == plain and config.to_flags() == plain.to_flags()
    assert json.dumps(dataclasses.asdict(config)) == json.dumps(dataclasses.asdict(plain))
    assert format_value(np.float64(0.1)) == "0.1" and parse_number(np.float32(0.5)) == 0.5
    with pytest.raises(ValueError, match="epochs=True: accepted are whole numbers"):
        TrainConfig(epochs=np.bool_(True))


def test_a_mistyped_flag_suggests_the_right_one():
    with pytest.raises(flags.UnrecognizedFlagError, match="epsilon"):
        parse("--epsilom=8/255")


def test_the_last_of_two_wins():
    assert parse("--epsilon=8/255", "--epsilon=0.1").epsilon == 0.1


def test_hyperparameters_of_the_method():
    config = parse("--beta=5", "--set=start=uniform", "--set=clean_passes=2", "--set=boost=true")
    assert config.hyperparameters() == {
        "beta": 5.0,
        "start": "uniform",
        "clean_passes": 2,
        "boost": True,
    }
    with pytest.raises(ValueError, match="set=beta: accepted is NAME=VALUE"):
        parse("--set=beta").hyperparameters()


numbers = st.floats(1e-6, 10, allow_nan=False)


@given(
    epsilon=numbers,
    numerator=st.integers(1, 300),
    step_size=st.none() | numbers,
    decay=st.lists(numbers, max_size=3),
    factors=st.lists(numbers, max_size=2),
    data_dir=st.text(max_size=8),
    assignments=st.lists(st.sampled_from(["a=1", "b=x", "c=8/255"]), max_size=3),
    nesterov=st.booleans(),
    beta=st.none() | numbers,
)
def test_a_flag_file_repeats_the_experiment(
    tmp_path_factory, epsilon, numerator, step_size, decay, factors, data_dir, assignments,
    nesterov, beta,
):  # fmt: skip
    try:
        config = TrainConfig(
            epsilon=epsilon,
            measure_epsilon=numerator / 255,
            step_size=step_size,
            decay_epochs=tuple(decay),
            decay_factors=tuple(factors),
            data_dir=data_dir,
            set=tuple(assignments),
            nesterov=nesterov,
            beta=beta,
        )
    except ValueError as error:  # A text that no line can hold.
        assert str(error).startswith("data_dir=")
        return
    path = tmp_path_factory.mktemp("flags") / "flags.txt"
    path.write_text("# a comment\n\n" + config.to_flags())
    assert read_flags(path) == config


def test_what_a_file_gave_can_be_taken_back():
    assert parse("--beta=6", "--beta=").beta is None


def test_hyperparameters_by_name_are_known_in_files_too(tmp_path):
    path = tmp_path / "my.flags"
    path.write_text("--method=trades\n--start=uniform\n--clean_passes=2\n")
    assert read_flags(path).set == ("clean_passes=2", "start=uniform")
    assert read_flags(path).hyperparameters() == {"clean_passes": 2, "start": "uniform"}


def test_the_last_assignment_wins_and_their_order_does_not_matter():
    one = TrainConfig(set=("a=1", "b=2", "a=3"))
    assert one == TrainConfig(set=("b=2", "a=3"))


def test_the_step_follows_the_radius_and_the_number_of_steps_unless_it_is_given():
    assert TrainConfig().step_size_for(0.5, 10) == 0.1
    assert TrainConfig().step_size_for(0.5, 20) == 0.05
    assert TrainConfig(step_size=0.007).step_size_for(0.5, 10) == 0.007
    assert parse("--step_size=0.1", "--step_size=").step_size is None


@pytest.mark.parametrize("line", ["--flagfile=other", "-flagfile other", "--flagfile"])
def test_the_flags_of_a_run_name_no_other_files(tmp_path, line):
    (tmp_path / "flags.txt").write_text(f"--epochs=3\n{line}\n")
    with pytest.raises(ValueError, match="flags.txt cannot be read: it includes another file"):
        read_flags(tmp_path / "flags.txt", alone=True)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"--epsilon=x\n", b"--epochs=0\n", b"", b"\n# nothing\n", b"--epsilom=1\n"],
)
def test_a_damaged_flag_file_is_named(tmp_path, content):
    path = tmp_path / "flags.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="flags.txt cannot be read"):
        read_flags(path)


def test_flags_that_describe_the_machine_are_not_recorded():
    text = TrainConfig(devices=2, num_processes=2, process_id=1, cpu_devices=4).to_flags()
    for name in ("devices", "num_processes", "process_id", "coordinator_address"):
        assert f"--{name}=" not in text


def test_a_flag_file_shows_fractions_as_people_write_them():
    assert "--epsilon=8/255\n" in TrainConfig(epsilon=8 / 255).to_flags()
    assert "--epsilon=0.031\n" in TrainConfig(epsilon=0.031).to_flags()
    assert "--learning_rate=0.1\n" in TrainConfig().to_flags()


def test_differences_name_what_changes_training_and_nothing_else():
    config = TrainConfig()
    other = dataclasses.replace(
        config, epsilon=0.1, data_dir="elsewhere", devices=4, workdir="there", epochs=7
    )
    assert config.differences(config) == []
    assert config.differences(other) == ["epsilon=8/255 (was 0.1)"]


def test_writers_are_names_between_commas_and_those_of_a_file_are_marked(tmp_path):
    assert parse("--log=tensorboard, mine.logs:create").log == ("tensorboard", "mine.logs:create")
    assert parse().log == parse("--log=").log == ()
    path = tmp_path / "my.flags"
    path.write_text("--log=wandb,mine.logs:create\n")
    kinds = [type(name) for name in read_flags(path).log]
    assert kinds == [str, own_code.FromFile]
