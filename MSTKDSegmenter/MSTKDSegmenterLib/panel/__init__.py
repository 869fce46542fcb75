"""The pieces of the panel: each fills and reads its part of the widgets in Resources/UI (qt, no computation)."""
