//! The operator as those see it who run it.
