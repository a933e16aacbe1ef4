//! Text to [`Node`]s: saphyr-parser's events, with anchors, aliases and documents put together.
//!
//! One problem of grammar ends a file, since what follows it could mean anything. Merge keys (`<<`)
//! and duplicate keys are left to the walk, which knows the path to tell.
//!
//! Bounded: depth, and nodes and bytes *counted through aliases*, so that nothing behind this file
//! can be made to work longer than a file of the largest size would make it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::grammar;
use super::input::PacedInput;
use super::node::{Entry, Kind, Node, Scalar};
use crate::config::report::{Notes, Path, Pos, Said};
use crate::pace;

/// Lists and maps inside each other.
pub(super) const MAX_DEPTH: usize = 128;

/// Nodes of one file, each alias counted as what it stands for.
const MAX_NODES: u64 = 10_000_000;

/// Bytes of text in one file, counted in the same way.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Reads the document in `text`. None if there is none, or none that can be read; the latter is
/// noted.
pub(super) fn read<'t>(text: &'t str, notes: &mut Notes<'_>) -> Option<Node<'t>> {
    let mut builder = Builder {
        text,
        ..Builder::default()
    };
    for event in Parser::new(PacedInput::new(text)) {
        pace::step(1);
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                let pos = position(error.marker());
                let said = grammar::explain(error.info(), text, pos);
                Err(Stop { pos, said })
            }
        };
        if let Err(stop) = step {
            notes.error(stop.pos, &Path::Root, stop.said);
            return None;
        }
    }
    let mut documents = builder.documents.into_iter();
    let first = documents.next();
    for extra in documents {
        notes.error(
            extra.pos,
            &Path::Root,
            Said::with_hint(
                "a second document, which would not take effect",
                "one policy per file: give it a file of its own",
            ),
        );
    }
    first
}

/// What ends the reading of a file.
struct Stop {
    pos: Pos,
    said: Said,
}

#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    /// Documents that hold anything.
    documents: Vec<Node<'t>>,
    /// Lists and maps that are still open, the innermost last.
    open: Vec<Frame<'t>>,
    anchors: HashMap<usize, (Node<'t>, Size)>,
    total: Size,
}

struct Frame<'t> {
    pos: Pos,
    anchor: usize,
    size: Size,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Node<'t>>),
    Map {
        entries: Vec<Entry<'t>>,
        key: Option<Node<'t>>,
    },
}

/// How much a node stands for, itself included.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: u64,
    bytes: u64,
    height: usize,
}

impl Size {
    fn add(&mut self, inner: Self) {
        self.nodes = self.nodes.saturating_add(inner.nodes);
        self.bytes = self.bytes.saturating_add(inner.bytes);
        self.height = self.height.max(inner.height.saturating_add(1));
    }
}

impl<'t> Builder<'t> {
    fn event(&mut self, event: Event<'t>, span: Span) -> Result<(), Stop> {
        let pos = position(&span.start);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => self.alias(anchor, pos),
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = is_text_tag(tag.as_deref(), Expect::Scalar, pos)?;
                let plain = style == ScalarStyle::Plain && !tagged;
                let size = Size {
                    nodes: 1,
                    bytes: length(text.len()),
                    height: 0,
                };
                let text = borrow_verbatim(self.text, text, style, &span);
                let kind = Kind::Scalar(Scalar { text, plain });
                self.finish(Node::new(pos, kind), size, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                is_text_tag(tag.as_deref(), Expect::List, pos)?;
                self.push(pos, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                is_text_tag(tag.as_deref(), Expect::Map, pos)?;
                let entries = Vec::new();
                self.push(pos, anchor, Content::Map { entries, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn push(&mut self, pos: Pos, anchor: usize, content: Content<'t>) -> Result<(), Stop> {
        let size = Size {
            nodes: 1,
            ..Size::default()
        };
        self.open.push(Frame {
            pos,
            anchor,
            size,
            content,
        });
        self.check_depth(0, pos)
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let kind = match frame.content {
            Content::List(items) => Kind::List(shared(items)),
            Content::Map { entries, .. } => Kind::Map(shared(entries)),
        };
        self.finish(Node::new(frame.pos, kind), frame.size, frame.anchor)
    }

    /// Puts in what the anchor stood for, at the place of the alias.
    fn alias(&mut self, anchor: usize, pos: Pos) -> Result<(), Stop> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(Stop {
                pos,
                said: "this alias stands inside the very thing that it stands for".into(),
            });
        };
        let (kind, size) = (node.kind.clone(), *size);
        self.check_depth(size.height, pos)?;
        self.finish(Node::new(pos, kind), size, 0)
    }

    fn finish(&mut self, node: Node<'t>, size: Size, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let pos = node.pos;
        match self.open.last_mut() {
            None => {
                self.total.add(size);
                if !node.is_null() {
                    self.documents.push(node);
                }
            }
            Some(frame) => {
                frame.size.add(size);
                match &mut frame.content {
                    Content::List(items) => items.push(node),
                    Content::Map { entries, key } => match key.take() {
                        None => *key = Some(node),
                        Some(key) => entries.push(Entry { key, value: node }),
                    },
                }
            }
        }
        // A list or map is added to what surrounds it when it closes, so the whole is checked too.
        let size = self.open.last().map_or(self.total, |frame| frame.size);
        if size.nodes > MAX_NODES || size.bytes > MAX_BYTES {
            return Err(Stop {
                pos,
                said: format!(
                    "too large: with every alias written out it has more than {MAX_NODES} values \
                     or {} MiB",
                    MAX_BYTES / 1024 / 1024
                )
                .into(),
            });
        }
        Ok(())
    }

    fn check_depth(&self, height: usize, pos: Pos) -> Result<(), Stop> {
        if self.open.len().saturating_add(height) <= MAX_DEPTH {
            return Ok(());
        }
        Err(Stop {
            pos,
            said: format!("nested more than {MAX_DEPTH} levels deep").into(),
        })
    }
}

/// Returns the text of a scalar as a slice of the document where it stands there verbatim. The parser
/// copies each text, and 100,000 rules have a million. It counts positions in characters and starts a
/// scalar at its anchor or tag, so texts after a multi-byte character, an anchor or a tag stay copies.
fn borrow_verbatim<'t>(
    document: &'t str,
    text: Cow<'t, str>,
    style: ScalarStyle,
    span: &Span,
) -> Cow<'t, str> {
    let quote = match style {
        ScalarStyle::Plain => 0,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
        ScalarStyle::Literal | ScalarStyle::Folded => return text,
    };
    let start = span.start.index().saturating_add(quote);
    let verbatim = document.get(start..start.saturating_add(text.len()));
    match verbatim {
        Some(verbatim) if *verbatim == *text => Cow::Borrowed(verbatim),
        Some(_) | None => text,
    }
}

/// Without room to spare, unless there are so many that moving them would take long.
fn shared<T>(mut items: Vec<T>) -> Rc<Vec<T>> {
    if items.len() < LARGE {
        items.shrink_to_fit();
    }
    Rc::new(items)
}

/// Items of a large list or map.
const LARGE: usize = 1_000;

/// What a tag is written before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Scalar,
    List,
    Map,
}

/// Whether the tag makes a text of its scalar. A tag that says what is there anyway passes; any
/// other would change the meaning of what is written, so it is a problem.
fn is_text_tag(tag: Option<&Tag>, on: Expect, pos: Pos) -> Result<bool, Stop> {
    let Some(tag) = tag else {
        return Ok(false);
    };
    let core = tag.is_yaml_core_schema();
    match (tag.suffix.as_str(), on) {
        ("str", Expect::Scalar) if core => Ok(true),
        ("seq", Expect::List) | ("map", Expect::Map) if core => Ok(false),
        _ => Err(Stop {
            pos,
            said: Said::with_hint(
                format!("the tag {} is not supported", shown(tag)),
                "remove it; quotes make a text of anything",
            ),
        }),
    }
}

fn shown(tag: &Tag) -> Cow<'_, str> {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix).into()
    } else {
        format!("{}{}", tag.handle, tag.suffix).into()
    }
}

/// saphyr-parser counts lines from 1 and columns from 0.
fn position(marker: &saphyr_parser::Marker) -> Pos {
    Pos {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col().saturating_add(1)).unwrap_or(u32::MAX),
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Report;

    /// Returns the texts of a list of scalars, and whether each is a slice of the document.
    fn texts(document: &str) -> Vec<(String, bool)> {
        let mut report = Report::default();
        let root = read(document, &mut Notes::new(&"a".into(), &mut report)).unwrap();
        let items = match &root.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Map(_) | Kind::Scalar(_) => &[],
        };
        let scalar = |node: &Node<'_>| match &node.kind {
            Kind::Scalar(Scalar { text, .. }) => {
                Some((text.to_string(), matches!(text, Cow::Borrowed(_))))
            }
            Kind::List(_) | Kind::Map(_) => None,
        };
        items.iter().filter_map(scalar).collect()
    }

    #[test]
    fn verbatim_texts_are_slices_of_the_document() {
        let is = |text: &str, is_slice: bool| (text.to_owned(), is_slice);
        assert_eq!(
            texts("[plain, 'single', \"double\", two words, '']"),
            [
                is("plain", true),
                is("single", true),
                is("double", true),
                is("two words", true),
                is("", true)
            ]
        );
        assert_eq!(
            texts("['it''s', \"a\\tb\", &x anchored, *x, 'over\n  lines']"),
            [
                is("it's", false),
                is("a\tb", false),
                // The parser starts them at their anchor.
                is("anchored", false),
                is("anchored", false),
                is("over lines", false)
            ]
        );
        let behind = texts("[before, \u{e4}bc, bc, behind]");
        assert_eq!(behind[0], is("before", true));
        let rest: Vec<&str> = behind[1..].iter().map(|(text, _)| &**text).collect();
        assert_eq!(rest, ["\u{e4}bc", "bc", "behind"]);
    }
}
