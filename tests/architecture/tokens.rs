//! Rust source as a flat list of tokens, and the paths in it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word, a mark or a bracket.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// How many `mod name { .. }` it stands in.
    inline_modules: usize,
}

/// Appends the tokens of `stream`, which stands in so many inline modules.
pub(crate) fn flatten(stream: TokenStream, inline_modules: usize, into: &mut Vec<Token>) {
    for tree in stream {
        let token = |text: String, line: usize| Token {
            text,
            line,
            inline_modules,
        };
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let before_last = into.len().checked_sub(2).and_then(|i| into.get(i));
                let is_module = open == "{" && before_last.is_some_and(|t| t.text == "mod");
                into.push(token(open.to_owned(), line));
                flatten(
                    group.stream(),
                    inline_modules + usize::from(is_module),
                    into,
                );
                into.push(token(close.to_owned(), group.span_close().start().line));
            }
            TokenTree::Ident(word) => into.push(token(word.to_string(), line)),
            TokenTree::Punct(mark) => into.push(token(mark.as_char().to_string(), line)),
            TokenTree::Literal(_) => into.push(token("literal".to_owned(), line)),
        }
    }
}

/// A path that starts in this crate: `crate::a::b`, `super::super::c`.
#[derive(Clone)]
pub(crate) struct CratePath {
    segments: Vec<String>,
    pub(crate) line: usize,
    inline_modules: usize,
    /// Goes on with `as name`.
    renamed: bool,
}

impl CratePath {
    /// The library's module that it leads to, from a file so deep in modules; none if it stays in
    /// the module that it is in. The crate itself under another name would hide every module, so
    /// that is told as the module `self`, which is none.
    pub(crate) fn module_of_the_crate(&self, depth: usize) -> Option<&str> {
        let mut segments = self.segments.iter().map(String::as_str).peekable();
        let whole = self.renamed.then_some("self");
        if segments.next_if_eq(&"crate").is_some() {
            return segments.next().or(whole);
        }
        let _here = segments.next_if_eq(&"self");
        let mut up = 0;
        while segments.next_if_eq(&"super").is_some() {
            up += 1;
        }
        (up >= depth + self.inline_modules)
            .then(|| segments.next().or(whole))
            .flatten()
    }
}

/// All paths in this crate, with those in braces written out.
pub(crate) fn paths(tokens: &[Token]) -> Vec<CratePath> {
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let inside = i > 0 && tokens[i - 1].text == ":";
        if !inside && ["crate", "super", "self"].contains(&token.text.as_str()) {
            let start = CratePath {
                segments: Vec::new(),
                line: token.line,
                inline_modules: token.inline_modules,
                renamed: false,
            };
            path(tokens, i, start, &mut found);
        }
    }
    found
}

/// Reads on from `at`, with `so_far` before it, and returns where the path ends.
fn path(tokens: &[Token], at: usize, mut so_far: CratePath, found: &mut Vec<CratePath>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    if text(at) == "{" {
        let mut at = at + 1;
        while !["}", ""].contains(&text(at)) {
            let mut inner = so_far.clone();
            inner.line = tokens[at].line;
            at = path(tokens, at, inner, found);
            // Past `as name`.
            while ![",", "}", ""].contains(&text(at)) {
                at += 1;
            }
            at += usize::from(text(at) == ",");
        }
        return at + 1;
    }
    so_far.segments.push(text(at).to_owned());
    if text(at + 1) == ":" && text(at + 2) == ":" {
        return path(tokens, at + 3, so_far, found);
    }
    // `extern crate self as name` does the same.
    so_far.renamed = text(at + 1) == "as" || (text(at) == "crate" && text(at + 1) == "self");
    found.push(so_far);
    at + 1
}

/// The places of the words that paths start with in `use` statements and `extern crate`, however
/// many braces are around them.
pub(crate) fn starts_of_imports(tokens: &[Token]) -> Vec<usize> {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "use" => starts(tokens, i + 1, &mut found),
            "crate" if i > 0 && text(i - 1) == "extern" => found.push(i + 1),
            _ => {}
        }
    }
    found
}

/// Reads one tree of a `use`, from `at`, for the first words of its paths.
fn starts(tokens: &[Token], mut at: usize, found: &mut Vec<usize>) {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    while text(at) == ":" {
        at += 1;
    }
    if text(at) != "{" {
        found.push(at);
        return;
    }
    let mut depth = 0_usize;
    loop {
        match text(at) {
            "" => return,
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        if depth == 1 && ["{", ","].contains(&text(at)) {
            starts(tokens, at + 1, found);
        }
        at += 1;
    }
}

/// Whether the word at `i` starts a path that goes on, as `a::b` and `::a::b` do.
pub(crate) fn starts_a_path(tokens: &[Token], i: usize) -> bool {
    let text = |i: Option<usize>| {
        i.and_then(|i| tokens.get(i))
            .map_or("", |t| t.text.as_str())
    };
    if text(Some(i + 1)) != ":" || text(Some(i + 2)) != ":" {
        return false;
    }
    match text(i.checked_sub(1)) {
        "." => false,
        // `a: b::c`, `a::b::c` or `::b::c`.
        ":" if text(i.checked_sub(2)) != ":" => true,
        ":" => {
            let before = text(i.checked_sub(3));
            let goes_on = before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                && !WORDS_BEFORE_A_PATH.contains(&before);
            let generic = before == ">" && text(i.checked_sub(4)) != "-";
            !goes_on && !generic
        }
        _ => true,
    }
}

/// Words of the language after which a path starts with `::`.
const WORDS_BEFORE_A_PATH: [&str; 12] = [
    "as", "const", "dyn", "else", "for", "impl", "in", "match", "mut", "return", "use", "where",
];
