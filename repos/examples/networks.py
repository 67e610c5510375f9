"""The two classifiers of digits: a convolutional and a recurrent network (needs torch); no training code."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvNet(nn.Module):
    """mnist_cnn, 1,199,882 parameters: two 3x3 convolutions, one max-pool, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.linear1 = nn.Linear(64 * 12 * 12, 128)
        self.dropout2 = nn.Dropout(0.5)
        self.linear2 = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [n, 10] of normalised images [n, 1, 28, 28]."""
        maps = F.relu(self.conv2(F.relu(self.conv1(images))))
        features = self.dropout1(F.max_pool2d(maps, 2)).flatten(1)
        hidden = self.dropout2(F.relu(self.linear1(features)))
        return F.log_softmax(self.linear2(hidden), dim=1)


class RowLstm(nn.Module):
    """mnist_rnn, 26,602 parameters: an LSTM reads the image row by row; its last state is classified.

    It has a norm over the batch, so it trains on batches of two digits or more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size=28, hidden_size=64, batch_first=True)
        self.norm = nn.BatchNorm1d(64)
        self.dropout1 = nn.Dropout(0.25)
        self.linear1 = nn.Linear(64, 32)
        self.dropout2 = nn.Dropout(0.5)
        self.linear2 = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [n, 10] of normalised images [n, 1, 28, 28]."""
        states, _ = self.lstm(images.flatten(1, 2))
        hidden = F.relu(self.linear1(self.dropout1(self.norm(states[:, -1]))))
        return F.log_softmax(self.linear2(self.dropout2(hidden)), dim=1)
