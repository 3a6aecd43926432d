"""The layers and mechanisms that activation units, attention units and backbones are made of."""
