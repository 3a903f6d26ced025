//! How a machine's targets read their input: as choices, so that nearly every input is a sequence of steps that makes sense.

/// Choices read from bytes. When they are used up, each is the first there is.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// `0..n`
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(crate) fn of<'c, T>(&mut self, all: &'c [T]) -> &'c T {
        &all[self.below(all.len())]
    }

    /// One of those there are, if there is any.
    pub(crate) fn one_of<T: Clone>(&mut self, all: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = all.into_iter().collect();
        (!all.is_empty()).then(|| self.of(&all).clone())
    }

    /// A byte for the length, then the bytes.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// As [`Choices::bytes`], on one line.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).replace(['\r', '\n', '\0'], " ")
    }

    /// Milliseconds: nothing, the next moment, or up to 65 s.
    pub(crate) fn time_ms(&mut self) -> u64 {
        u64::from(self.byte()).pow(2)
    }
}
