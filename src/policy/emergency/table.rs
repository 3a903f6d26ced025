//! The compiled-in number tables and their origin.
