//! Commands by hand: what is refused, what is kept, what is forgotten.
