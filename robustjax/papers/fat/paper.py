"""FAT (Zhang et al., 2020) as data: its algorithm, its equations, and its tables and figures."""

from robustjax import attacks, losses
from robustjax.methods import fat, standard, trades
from robustjax.papers.fat import figures, tables
from robustjax.papers.item import Equation, Paper

ALGORITHM = """\
Adversarial training by PGD fits the worst image that a fixed number of steps finds, whether or not
the network had been wrong long before. Such images may lie far inside the region of another class,
so that no network can fit them together with clean images. FAT takes a *friendly* image instead:
among those that are misclassified by some margin, one of small loss.

The search is PGD that looks at the prediction before every step. An image that is misclassified
may go on for τ further steps and is then left where it is; one that is classified correctly goes on
to the last of K steps. So τ = 0 stops at the boundary, and τ = K is ordinary PGD. As the network
becomes robust, more steps are needed before anything is misclassified: the images grow harder by
themselves, and while they are easy the unused steps save time.

The stop goes with any method that trains on PGD's images. FAT has the cross-entropy of the friendly
image, FAT for TRADES ascends TRADES's divergence and is judged by the label, FAT for MART has
MART's loss. For the best results τ rises by one several times during training, and the radius in
training may be twice that of the attacks that measure."""

DIFFERENCES = (
    "Algorithm 1 starts at the clean image, the authors' code at a uniform random point for FAT "
    "and at normal noise of 0.001 for FAT for MART. Here the clean image; `start` has the others.",
    "The code of FAT adds normal noise of 0.001 in every step, which the paper does not mention: "
    "`omega`, 0 here.",
    "Algorithm 4 prints the cross-entropy of the adversarial image, eq. 9 and the code have that "
    "of the natural one, which is taken here. Algorithm 3 adds the image twice in a step.",
    "τ counts the misclassified points of a search, consecutive or not, and nothing looks at the "
    "point after the last step: so in Algorithm 1, in the code and here.",
    "The paper trains with 8/255 and 16/255, the code with 0.031 and, for twice the radius, 0.062. "
    "Tables and flag files here take the paper's; a step stays 0.007 and K = 10 at both.",
    "WRN-32-10 of table 1 is WRN-34-10 under another count of layers: the same network in the code "
    "and here.",
    'The code counts epochs from 1 where it sets the learning rate: "at epoch 60" is after 59 '
    "whole epochs, and so in the tables here; τ changes after whole epochs. The scripts of the "
    "figures were not released; there the rate falls after 60 whole epochs.",
    "H.3 does not say how long FAT for MART was trained; the code has 90 epochs, of which the last "
    "alone has the second drop of the learning rate. It is measured with 8/255 and steps of ε/10 "
    "in the paper, with 0.031 and 0.003 in the code.",
    "In the authors' evaluation FGSM too has a random start, and so it has here in tables 1, 3 and "
    "4. The numbers look like it: FAT's FGSM exceeds PGD-20 by 9 to 19 points there, by 5 to 11 in "
    "table 2. In the figures FGSM has a random start where the text says so (figure 4).",
    "Neither weight decay nor batch size of the figures are given: 2e-4 and 128 here, as in the "
    "code. Nor is it said what normalises the attack's batches: running statistics in the code "
    "and here.",
    "The margin loss of the code's C&W attack is capped at 50, which changes nothing before an "
    "image is wrong by 50 logits; there is no cap here.",
)

EQUATIONS = (
    Equation("eq. 1", "B_ε[x] = {x′ : ‖x − x′‖∞ ≤ ε}", attacks.ThreatModel),
    Equation(
        "eqs. 2 to 4",
        "min_θ mean_i ℓ(f(x̃_i), y_i), x̃_i = arg max over B_ε[x_i] of ℓ(f(x̃), y_i)",
        standard.create,
    ),
    Equation("eq. 5", "x ← Π(x + α sign ∇ℓ(f(x), y)), Π onto B_ε[x⁰]", attacks.pgd),
    Equation(
        "section 3.1, Algorithm 1",
        "x̃ = arg min over B_ε[x] of ℓ(f(x̃), y) where ℓ(f(x̃), y) − min_k ℓ(f(x̃), k) ≥ ρ; "
        "PGD-K-τ comes near it",
        attacks.stopping.misclassified,
    ),
    Equation("Algorithm 2", "min_θ mean_i CE(f(x̃_i), y_i), x̃ by PGD-K-τ", fat.create),
    Equation("eq. 6", "x ← x + α sign ∇ℓ(f(x), y), `projection=False`", fat.create),
    Equation("eq. 7", "CE(f(x), y) + β KL(p(x) ‖ p(x̃))", losses.trades),
    Equation("eq. 8", "x̃ = arg max over B_ε[x] of KL(p(x) ‖ p(x̃))", trades.create),
    Equation(
        "eq. 9, Algorithms 3 and 4",
        "CE(f(x), y) + β KL(p(x) ‖ p(x̃)), x̃ by PGD-K-τ on the KL",
        fat.create_trades,
    ),
    Equation("eq. 10", "BCE(f(x̃), y) + β KL(p(x) ‖ p(x̃)) · (1 − p_y(x))", losses.mart),
    Equation(
        "appendix E.1",
        "BCE(f(x̃), y) = −log p_y(x̃) − log(1 − max_{k≠y} p_k(x̃))",
        losses.boosted_cross_entropy,
    ),
    Equation("eq. 11, Algorithm 5", "eq. 10 with x̃ by PGD-K-τ", fat.create_mart),
    Equation("eq. 12", "x̃ = arg max over B_ε[x] of max_{k≠y} f(x̃)_k − f(x̃)_y", attacks.cw_linf),
)

PAPER = Paper(
    name="fat",
    title="Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
    authors="Zhang et al. (2020)",
    algorithm=ALGORITHM,
    equations=EQUATIONS,
    differences=DIFFERENCES,
    items=(
        figures.FIGURE_1,
        figures.features("fig3", "section 4.2", figures.SMALL_CNN, 7, "pca"),
        figures.against_tau(),
        *(
            figures.backward_passes(f"{height}_{side}", model, on_trades=height == "bottom")
            for height in ("top", "bottom")
            for side, model in zip(("left", "middle", "right"), figures.MODELS, strict=True)
        ),
        figures.against_radius(6, "section 6.1", "resnet_18"),
        figures.against_radius(7, "section 6.1", "resnet_18", "svhn"),
        tables.TABLE_1,
        tables.TABLE_2,
        *figures.unprojected(9, "fat_small_cnn"),
        *figures.unprojected(10, "resnet_18"),
        *figures.all_features(11, "appendix C.1", figures.SMALL_CNN),
        *figures.all_features(12, "appendix C.2", figures.WRN_40_4),
        figures.against_radius(13, "appendix G.1", "fat_small_cnn"),
        figures.against_radius(14, "appendix G.1", "fat_small_cnn", "svhn"),
        figures.against_radius(15, "appendix G.2", "fat_small_cnn", on_trades=True),
        figures.against_radius(16, "appendix G.2", "resnet_18", on_trades=True),
        figures.against_radius(17, "appendix G.3", "fat_small_cnn", steps=20),
        figures.against_radius(18, "appendix G.3", "resnet_18", steps=20),
        figures.against_radius(19, "appendix G.3", "fat_small_cnn", on_trades=True, steps=20),
        figures.against_radius(20, "appendix G.3", "resnet_18", on_trades=True, steps=20),
        *tables.TABLE_3,
        *tables.TABLE_4,
    ),
)
