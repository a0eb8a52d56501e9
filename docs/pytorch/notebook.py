"""In a notebook, cell by cell: data, a network, live curves and errors that show themselves."""

# %%
import torch
from IPython.display import clear_output, display
from matplotlib import pyplot
from sklearn.metrics import ConfusionMatrixDisplay
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from tqdm.auto import trange

from funcnn import data

EPOCHS = 10
torch.manual_seed(0)
digits = data.digits(8)
examples = TensorDataset(torch.from_numpy(digits.x), torch.from_numpy(digits.y))
train, test = random_split(examples, [0.8, 0.2])
len(train), len(test), digits.x.shape[1:]

# %%
net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Flatten(), nn.Linear(256, 10))  # fmt: skip
print(net)
sum(p.numel() for p in net.parameters())

# %%
optimizer, lossf = torch.optim.Adam(net.parameters(), 0.003), nn.CrossEntropyLoss()
history: dict[str, list[float]] = {"loss": [], "validation loss": [], "accuracy": []}
loader, (x, y) = DataLoader(train, 32, shuffle=True), test[:]
for _ in trange(EPOCHS):
    net.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = lossf(net(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    net.eval()
    with torch.no_grad():
        scores = net(x)
    history["loss"].append(total / len(train))
    history["validation loss"].append(lossf(scores, y).item())
    history["accuracy"].append((scores.argmax(1) == y).float().mean().item())
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3))
    for name, values in history.items():
        panel = panels[int(name == "accuracy")]
        panel.plot(values, label=name)
        panel.legend()
    clear_output(wait=True)
    display(figure)
    pyplot.close(figure)

# %%
ConfusionMatrixDisplay.from_predictions(y, scores.argmax(1)).figure_

# %%
history["accuracy"][-1]
