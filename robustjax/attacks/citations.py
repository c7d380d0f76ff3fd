"""The papers that the attacks come from, in BibTeX."""

CITATIONS = {
    "fgsm": """\
@inproceedings{goodfellow2015explaining,
  title = {Explaining and Harnessing Adversarial Examples},
  author = {Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian},
  booktitle = {International Conference on Learning Representations},
  year = {2015},
}
""",
    "pgd": """\
@inproceedings{madry2018towards,
  title = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and
            Vladu, Adrian},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
}
""",
    "cw": """\
@inproceedings{carlini2017towards,
  title = {Towards Evaluating the Robustness of Neural Networks},
  author = {Carlini, Nicholas and Wagner, David},
  booktitle = {IEEE Symposium on Security and Privacy},
  year = {2017},
}
""",
    "autoattack": """\
@inproceedings{croce2020reliable,
  title = {Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
           Attacks},
  author = {Croce, Francesco and Hein, Matthias},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}
""",
    "malt": """\
@inproceedings{melamed2024malt,
  title = {{MALT} Powers Up Adversarial Attacks},
  author = {Melamed, Odelia and Yehudai, Gilad and Shamir, Adi},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
}
""",
    "fab": """\
@inproceedings{croce2020minimally,
  title = {Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack},
  author = {Croce, Francesco and Hein, Matthias},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}
""",
    "square": """\
@inproceedings{andriushchenko2020square,
  title = {Square Attack: A Query-Efficient Black-Box Adversarial Attack via Random Search},
  author = {Andriushchenko, Maksym and Croce, Francesco and Flammarion, Nicolas and
            Hein, Matthias},
  booktitle = {European Conference on Computer Vision},
  year = {2020},
}
""",
    "spsa": """\
@inproceedings{uesato2018adversarial,
  title = {Adversarial Risk and the Dangers of Evaluating Against Weak Attacks},
  author = {Uesato, Jonathan and O'Donoghue, Brendan and van den Oord, A{\\"a}ron and
            Kohli, Pushmeet},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
}
""",
    "deepfool": """\
@inproceedings{moosavidezfooli2016deepfool,
  title = {DeepFool: A Simple and Accurate Method to Fool Deep Neural Networks},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Frossard, Pascal},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2016},
}
""",
}

IN_L1 = """\
@inproceedings{croce2021mind,
  title = {Mind the Box: $l_1$-{APGD} for Sparse Adversarial Attacks on Image Classifiers},
  author = {Croce, Francesco and Hein, Matthias},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
}
"""
"""The paper of the projection on an l1 ball and the box together, and of what is built on it."""

USED_IN_L1 = ("autoattack", "malt", "pgd", "square")
"""Papers above whose attacks are in an l1 ball those of `IN_L1`."""
