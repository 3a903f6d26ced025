//! Numbers: from what was dialled to one canonical form.
