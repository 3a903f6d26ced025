//! media_io
