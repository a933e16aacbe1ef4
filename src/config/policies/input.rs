//! The parser's input, with pause points: a text or comment of megabytes is one event.

use saphyr_parser::{Input, StrInput};

use crate::pace;

/// A text whose characters are counted while the parser takes them.
///
/// Whole runs of characters are taken by the trait's own loops, character by character: those of
/// [`StrInput`] take a comment of any length in one piece.
pub(super) struct PacedInput<'t> {
    text: StrInput<'t>,
    taken: u32,
}

impl<'t> PacedInput<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text: StrInput::new(text),
            taken: 0,
        }
    }

    #[inline]
    fn take(&mut self, characters: u32) {
        self.taken = self.taken.saturating_add(characters);
        if self.taken >= PER_UNIT {
            pace::step(self.taken / PER_UNIT);
            self.taken %= PER_UNIT;
        }
    }
}

/// Characters that are as much work as an event.
const PER_UNIT: u32 = 64;

impl Input for PacedInput<'_> {
    #[inline]
    fn lookahead(&mut self, count: usize) {
        self.text.lookahead(count);
    }

    #[inline]
    fn buflen(&self) -> usize {
        self.text.buflen()
    }

    #[inline]
    fn bufmaxlen(&self) -> usize {
        self.text.bufmaxlen()
    }

    #[inline]
    fn raw_read_ch(&mut self) -> char {
        self.take(1);
        self.text.raw_read_ch()
    }

    #[inline]
    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        self.take(1);
        self.text.raw_read_non_breakz_ch()
    }

    #[inline]
    fn skip(&mut self) {
        self.take(1);
        self.text.skip();
    }

    #[inline]
    fn skip_n(&mut self, count: usize) {
        self.take(u32::try_from(count).unwrap_or(u32::MAX));
        self.text.skip_n(count);
    }

    #[inline]
    fn peek(&self) -> char {
        self.text.peek()
    }

    #[inline]
    fn peek_nth(&self, n: usize) -> char {
        self.text.peek_nth(n)
    }

    #[inline]
    fn peek_opt(&self) -> Option<char> {
        self.text.peek_opt()
    }

    #[inline]
    fn next_is_document_indicator(&self) -> bool {
        self.text.next_is_document_indicator()
    }

    #[inline]
    fn next_is_document_start(&self) -> bool {
        self.text.next_is_document_start()
    }

    #[inline]
    fn next_is_document_end(&self) -> bool {
        self.text.next_is_document_end()
    }

    #[inline]
    fn next_can_be_plain_scalar(&self, in_flow: bool) -> bool {
        self.text.next_can_be_plain_scalar(in_flow)
    }
}
