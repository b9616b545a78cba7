"""GAIN's training step in PyTorch, with a classifier of torch_classifiers, to compare with ours.

The layers, losses, optimiser, augmentation and moving average are those of zoo.gain, trainers.gain
and zoo.layers.grad_cam, at the maximum learning rate and with L_am from the first step on.
"""

import torch
from torch import nn
from torch.nn import functional

from . import torch_classifiers, torch_step


class Features(nn.Module):
    """The feature map of a classifier. Only this part is compiled: Grad-CAM needs the second
    derivative of the head, which compiled networks do not have."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier.features(x)


def mean_over_present(values, present):
    """The mean over images of the mean of values (B, K) over the classes that are present."""
    return ((present * values).sum(1) / present.sum(1).clamp(min=1)).mean()


class GAIN(torch_step.Step):
    decay, rate, alpha, steepness, sigma, max_classes = 0.99, 0.02, 1.0, 10.0, 0.5, 3

    def __init__(self, mode, size, backbone, **options):
        self.classifier = torch_classifiers.NETWORKS[backbone](**options)
        super().__init__(mode, {"features": Features(self.classifier)}, ["features"])
        self.optimizer = torch_classifiers.sgd({self.classifier: self.rate})

    def attend(self, f, classes, size):
        """Features f (B, D, h, w), classes (B, K) -> A^c (B, K, size, size) in [0, 1]."""
        f = f.repeat_interleave(classes.shape[1], 0)
        s = self.classifier.head(f).gather(1, classes.reshape(-1, 1)).sum()
        (gradient,) = torch.autograd.grad(s, f, create_graph=True)
        A = functional.relu(torch.einsum("ndhw,nd->nhw", f, gradient.mean((2, 3))))
        return torch_step.min_max(torch_step.resized(A, size)).unflatten(0, classes.shape)

    def masked_scores(self, x, masks, classes):
        """s^c(I*) (B, K), with the moving statistics of batch normalisation."""
        star = (x[:, None] - masks[:, :, None] * x[:, None]).flatten(0, 1)
        self.networks["features"].eval()
        f = self.run["features"](star.contiguous(memory_format=torch.channels_last))
        self.networks["features"].train()
        logits = self.classifier.head(f)
        return torch.sigmoid(logits.gather(1, classes.reshape(-1, 1))).view_as(classes)

    def __call__(self, batch):
        x, present = torch_classifiers.augment(batch["image"]), batch["labels"].float()
        f = self.run["features"](x)
        logits = self.classifier.head(f)
        loss = (functional.softplus(logits) - present * logits).sum(1).mean()
        classes = (present * (1 + torch.rand(present.shape))).topk(self.max_classes).indices
        is_present = present.gather(1, classes)
        A = self.attend(f, classes, x.shape[2])
        T = torch.sigmoid(self.steepness * (A - self.sigma))
        am_loss = mean_over_present(self.masked_scores(x, T, classes), is_present)
        self.update(loss + self.alpha * am_loss, self.optimizer)
        self.update_average()
        mask = mean_over_present(T.mean((2, 3)), is_present)
        return {"loss": loss.item(), "am_loss": am_loss.item(), "mask": mask.item()}
