"""Which figure of which paper is which commands; docs/figures.md and --help show this list."""

from typing import NamedTuple


class PaperFigure(NamedTuple):
    """A figure that a paper draws from training.

    Attributes:
      figure: paper, number and subject.
      training: arguments of launch/sweep.py, one or several sweeps.
      drawing: arguments of launch/figures.py.
    """

    figure: str
    training: tuple[str, ...]
    drawing: str


_NAP = (
    "--model=wide_resnet_34_4 --epsilon=8/255 --step_size=2/255 --epochs=80 --learning_rate=0.1 "
    "--decay_epochs=40,60 --weight_decay=5e-4 --attack_batch_norm=train"
)
_FAT_ATTACKS = "--attacks=clean,fgsm,pgd-20,pgd-100,cw-30 --attack_step_size=2/255"
_CIFAR_RADII = (
    "--grid='epsilon,step_size=0.03:0.003;0.045:0.0045;0.06:0.006;0.09:0.009;0.12:0.012;0.15:0.015'"
)
_SVHN_RADII = (
    "--grid='epsilon,step_size=0.01:0.001;0.02:0.002;0.03:0.003;0.04:0.004;0.05:0.005;0.06:0.006'"
)
_LIKE_FAT = "--learning_rate=0.01 --epochs=80 --decay_epochs=60"
_BACKWARD = (
    "--grid=model=fat_small_cnn,resnet_18,wide_resnet_34_10 --epsilon=8/255 --step_size=0.007 "
    "--learning_rate=0.1 --epochs=100 --decay_epochs=60,90 --decay_factors=0.1 --attacks=clean"
)
_LIKE_MART = (
    "--model=resnet_18 --epsilon=8/255 --step_size=2/255 --learning_rate=0.1 --epochs=120 "
    "--decay_epochs=75,90"
)
_LRM_ATTACK = "--attacks=clean,pgd-10 --attack_step_size=2/255"
_CAPACITIES = range(1, 6)

PAPER_FIGURES = (
    PaperFigure(
        "TRADES, accuracy against β",
        (
            "--flagfile=launch/trades.flags --grid=beta=0.1,0.2,0.5,1,2,4,6,10 "
            "--attacks=clean,pgd-20 --attack_step_size=0.003 --sweep_dir=sweeps/trades_beta",
        ),
        "--kind=sweep --sweep_dirs=sweeps/trades_beta",
    ),
    PaperFigure(
        "MART figure 2a, removing components",
        (
            "--flagfile=launch/mart_ablation.flags "
            "--grid='divergence,weighted=true:true;true:false;false:true;false:false' "
            "--sweep_dir=sweeps/mart_2a",
        ),
        "--kind=curves --sweep_dirs=sweeps/mart_2a",
    ),
    PaperFigure(
        "MART figure 2b, replacing components",
        (
            "--flagfile=launch/mart_ablation.flags "
            "--grid='classifier,attack_loss=bce:ce;ce:ce;natural_bce:ce;bce:kl' "
            "--sweep_dir=sweeps/mart_2b",
        ),
        "--kind=curves --sweep_dirs=sweeps/mart_2b",
    ),
    PaperFigure(
        "MART figure 2c, share of regularised examples",
        (
            "--flagfile=launch/mart_ablation.flags --grid=proportion=0,0.2,0.4,0.6,0.8,1 "
            "--sweep_dir=sweeps/mart_2c",
        ),
        "--kind=sweep --sweep_dirs=sweeps/mart_2c",
    ),
    PaperFigure(
        "MART figure 2d, λ of MART and TRADES",
        (
            "--flagfile=launch/mart_ablation.flags --grid=beta=0.5,1,2,5,10,20,50 "
            "--sweep_dir=sweeps/mart_2d",
            f"--flagfile=launch/trades.flags {_LIKE_MART} --grid=beta=0.5,1,2,5,10,20,50 "
            "--sweep_dir=sweeps/trades_2d",
        ),
        "--kind=sweep --sweep_dirs=sweeps/mart_2d,sweeps/trades_2d",
    ),
    PaperFigure(
        "NAP figures 4 to 6, accuracy and loss per epoch of each loss",
        (
            "--grid='flagfile=launch/standard.flags;launch/nap.flags;launch/trades.flags;"
            f"launch/mart.flags' {_NAP} --sweep_dir=sweeps/nap_losses",
        ),
        "--kind=curves --sweep_dirs=sweeps/nap_losses",
    ),
    PaperFigure(
        "NAP figures 4 to 6, other λ",
        ("--flagfile=launch/nap.flags --grid=beta=0.3,1,3,6,10 --sweep_dir=sweeps/nap_lambda",),
        "--kind=curves --sweep_dirs=sweeps/nap_lambda",
    ),
    PaperFigure(
        "FAT figure 4, accuracy against τ",
        (
            "--flagfile=launch/fat_resnet18.flags --learning_rate=0.1 --step_size=0.007 "
            "--grid=tau=0,1,2,3,4,5,6,7,8,9,10 --grid=model=fat_small_cnn,resnet_18 "
            "--seeds=0,1,2,3,4 --attacks=clean,fgsm-random,pgd-10,pgd-20,pgd-100,cw-30 "
            "--attack_step_size=0.003 --sweep_dir=sweeps/fat_4",
        ),
        "--kind=sweep --sweep_dirs=sweeps/fat_4",
    ),
    PaperFigure(
        "FAT figure 5, backward passes per epoch, top (FAT)",
        (
            f"--flagfile=launch/fat_resnet18.flags --grid=tau=0,1,2,3 {_BACKWARD} "
            "--sweep_dir=sweeps/fat_5",
            f"--flagfile=launch/standard.flags {_BACKWARD} --sweep_dir=sweeps/standard_5",
        ),
        "--kind=backward_passes --sweep_dirs=sweeps/fat_5,sweeps/standard_5",
    ),
    PaperFigure(
        "FAT figure 5, backward passes per epoch, bottom (FAT for TRADES)",
        (
            f"--flagfile=launch/fat_trades.flags --grid=tau=0,1,2,3 {_BACKWARD} "
            "--sweep_dir=sweeps/fat_trades_5",
            f"--flagfile=launch/trades.flags {_BACKWARD} --sweep_dir=sweeps/trades_5",
        ),
        "--kind=backward_passes --sweep_dirs=sweeps/fat_trades_5,sweeps/trades_5",
    ),
    PaperFigure(
        "FAT figures 6 and 13, ε of training on CIFAR-10 (17 and 18: --steps=20)",
        (
            f"--flagfile=launch/fat_resnet18.flags --grid=model=fat_small_cnn,resnet_18 "
            f"--grid=tau=0,1,3 {_CIFAR_RADII} {_FAT_ATTACKS} --sweep_dir=sweeps/fat_6",
            f"--flagfile=launch/standard.flags --grid=model=fat_small_cnn,resnet_18 {_LIKE_FAT} "
            f"--measure_epsilon=8/255 {_CIFAR_RADII} {_FAT_ATTACKS} --sweep_dir=sweeps/standard_6",
        ),
        "--kind=sweep --x=epsilon --sweep_dirs=sweeps/fat_6,sweeps/standard_6",
    ),
    PaperFigure(
        "FAT figures 7 and 14, ε of training on SVHN",
        (
            f"--flagfile=launch/fat_svhn.flags --grid=model=fat_small_cnn,resnet_18 "
            f"--grid=tau=0,1,3 {_SVHN_RADII} {_FAT_ATTACKS} --sweep_dir=sweeps/fat_7",
            f"--flagfile=launch/standard.flags --dataset=svhn "
            f"--grid=model=fat_small_cnn,resnet_18 {_LIKE_FAT} --measure_epsilon=4/255 "
            f"{_SVHN_RADII} {_FAT_ATTACKS} --sweep_dir=sweeps/standard_7",
        ),
        "--kind=sweep --x=epsilon --sweep_dirs=sweeps/fat_7,sweeps/standard_7",
    ),
    PaperFigure(
        "FAT figures 9 and 10, step size of the search without projection",
        (
            "--flagfile=launch/fat_resnet18.flags --projection=false "
            "--grid=step_size=0.003,0.006,0.009,0.012,0.015 --grid=tau=0,1,3 "
            f"--grid=model=fat_small_cnn,resnet_18 {_FAT_ATTACKS} --sweep_dir=sweeps/fat_9",
            "--flagfile=launch/standard.flags "
            "--grid=step_size=0.003,0.006,0.009,0.012,0.015 "
            f"--grid=model=fat_small_cnn,resnet_18 {_LIKE_FAT} {_FAT_ATTACKS} "
            "--sweep_dir=sweeps/standard_9",
        ),
        "--kind=sweep --x=step_size --sweep_dirs=sweeps/fat_9,sweeps/standard_9",
    ),
    PaperFigure(
        "FAT figures 15 and 16, ε of training of FAT for TRADES (19 and 20: --steps=20)",
        (
            f"--flagfile=launch/fat_trades.flags --beta=6 {_LIKE_FAT} --measure_epsilon=8/255 "
            f"--grid=model=fat_small_cnn,resnet_18 --grid=tau=0,1,3 {_CIFAR_RADII} {_FAT_ATTACKS} "
            "--sweep_dir=sweeps/fat_trades_15",
            f"--flagfile=launch/trades.flags --beta=6 {_LIKE_FAT} --measure_epsilon=8/255 "
            f"--grid=model=fat_small_cnn,resnet_18 {_CIFAR_RADII} {_FAT_ATTACKS} "
            "--sweep_dir=sweeps/trades_15",
        ),
        "--kind=sweep --x=epsilon --sweep_dirs=sweeps/fat_trades_15,sweeps/trades_15",
    ),
    PaperFigure(
        "SENSE figure 7, c and capacity on MNIST",
        (
            "--flagfile=launch/sense_mnist_natural.flags --attacks=clean --grid=model="
            + ",".join(f"sense_mnist_cnn_{capacity}" for capacity in _CAPACITIES)
            + " --sweep_dir=sweeps/sense_7_natural",
            "--flagfile=launch/sense_mnist.flags --grid='model,init_from="
            + ";".join(
                f"sense_mnist_cnn_{capacity}:"
                f"sweeps/sense_7_natural/runs/model=sense_mnist_cnn_{capacity}-seed=0"
                for capacity in _CAPACITIES
            )
            + "' --grid=c=0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 "
            "--attacks=clean,pgd-500x20 --attack_step_size=0.01 --sweep_dir=sweeps/sense_7",
        ),
        "--kind=sweep --sweep_dirs=sweeps/sense_7",
    ),
    PaperFigure(
        "SENSE table 5, c on CIFAR-10",
        (
            "--flagfile=launch/sense.flags --grid=c=0.1,0.3,0.5,0.7 "
            "--attacks=clean,pgd-100x5 --examples=1000 --sweep_dir=sweeps/sense_table_5",
        ),
        "--kind=sweep --sweep_dirs=sweeps/sense_table_5",
    ),
    PaperFigure(
        "SENSE table 6, capacity at c = 0.7",
        (
            "--flagfile=launch/sense_small.flags "
            "--grid=model=cifar_resnet_20,cifar_resnet_32,cifar_resnet_44,cifar_resnet_56 "
            "--attacks=clean,pgd-100x5 --examples=1000 --sweep_dir=sweeps/sense_table_6",
        ),
        "--kind=sweep --sweep_dirs=sweeps/sense_table_6",
    ),
    PaperFigure(
        "SENSE table 7, c of small networks",
        (
            "--flagfile=launch/sense_small.flags --learning_rate=0.01 --epochs=150 "
            "--grid=c=0.1,0.5,0.7 --grid=model=tutorial_cnn_small,tutorial_cnn "
            "--attacks=clean,pgd-100x5 --examples=1000 --sweep_dir=sweeps/sense_table_7",
        ),
        "--kind=sweep --sweep_dirs=sweeps/sense_table_7",
    ),
    PaperFigure(
        "LRM figure 1 right, squeezing with and without logit pairing",
        (
            "--flagfile=launch/lrm.flags --mixing=none --label_smoothing=0 --pairing_ratio=none "
            f"--grid=squeezing=0,1e-5,1e-4,1e-3,1e-2,1e-1 {_LRM_ATTACK} --sweep_dir=sweeps/lrm_1",
            "--flagfile=launch/alp.flags --grid=squeezing=0,1e-5,1e-4,1e-3,1e-2,1e-1 "
            f"{_LRM_ATTACK} --sweep_dir=sweeps/alp_1",
        ),
        "--kind=sweep --x=squeezing --sweep_dirs=sweeps/lrm_1,sweeps/alp_1",
    ),
    PaperFigure(
        "LRM figure 2 left, strength of label smoothing",
        (
            "--flagfile=launch/label_smoothing.flags "
            "--grid=label_smoothing=0,0.01,0.05,0.1,0.25,0.5,0.75,0.85 "
            "--attacks=clean,fgsm,pgd-10 --attack_step_size=2/255 --sweep_dir=sweeps/lrm_2",
        ),
        "--kind=sweep --sweep_dirs=sweeps/lrm_2",
    ),
)


def list_figures() -> str:
    """The figures and their commands as --help shows them."""
    blocks = []
    for figure, training, drawing in PAPER_FIGURES:
        commands = [f"  python launch/sweep.py {arguments}" for arguments in training]
        commands.append(f"  python launch/figures.py {drawing}")
        blocks.append("\n".join([figure, *commands]))
    return "\n\n".join(blocks)


def to_markdown() -> str:
    """The table of docs/figures.md."""
    lines = ["| figure | training | drawing |", "| --- | --- | --- |"]
    for figure, training, drawing in PAPER_FIGURES:
        sweeps = "<br>".join(f"`launch/sweep.py {arguments}`" for arguments in training)
        lines.append(f"| {figure} | {sweeps} | `launch/figures.py {drawing}` |")
    return "\n".join(lines) + "\n"
