//! The rewriting against a complete decoder: what it reads from a rewritten block, by a table that
//! has seen only rewritten blocks, is what the client meant, but for the refused authorities.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A complete HPACK decoder, as the specification has it. Names and values of fields.
#[derive(Default)]
struct Decoder {
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: usize,
}

impl Decoder {
    fn new() -> Self {
        Self {
            limit: 4096,
            ..Self::default()
        }
    }

    fn entry(&self, index: usize) -> (Vec<u8>, Vec<u8>) {
        let fixed = |name: &str| (name.as_bytes().to_vec(), Vec::new());
        match index {
            1 => fixed(":authority"),
            // The static entries that the tests use; their values do not matter.
            2..=61 => fixed(&format!("static-{index}")),
            _ => self.entries[index - 62].clone(),
        }
    }

    fn evict(&mut self, limit: usize) {
        let size = |entries: &VecDeque<(Vec<u8>, Vec<u8>)>| -> usize {
            let sizes = entries.iter().map(|(name, value)| size(name, value));
            sizes.sum()
        };
        while size(&self.entries) > limit {
            self.entries.pop_back();
        }
    }

    fn decode(&mut self, mut block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let text = |text: Text<'_>| match text.is_huffman {
            true => huffman::decode(text.bytes).unwrap(),
            false => text.bytes.to_vec(),
        };
        let mut fields = Vec::new();
        while !block.is_empty() {
            let first = block[0];
            if first & 0xe0 == 0x20 {
                self.limit = read_index(&mut block, 5).unwrap();
                self.evict(self.limit);
                continue;
            }
            match Field::parse(&mut block).unwrap() {
                Field::Indexed(index) => fields.push(self.entry(index)),
                Field::Literal { form, name, value } => {
                    let name = match name {
                        Name::Index(index) => self.entry(index).0,
                        Name::Text(name) => text(name),
                    };
                    let field = (name, text(value));
                    fields.push(field.clone());
                    if form == Form::Added {
                        let size = size(&field.0, &field.1);
                        self.evict(self.limit.saturating_sub(size));
                        if size <= self.limit {
                            self.entries.push_front(field);
                        }
                    }
                }
                Field::SizeUpdate => unreachable!(),
            }
        }
        fields
    }
}

fn size(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + 32
}

/// What a client does with its next field. Numbers choose among what is possible.
#[derive(Clone, Debug)]
enum Step {
    Indexed(usize),
    Literal {
        form: usize,
        name: usize,
        value: usize,
        huffman: bool,
    },
    SizeUpdate(usize),
    EndBlock,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<usize>().prop_map(Step::Indexed),
        6 => (any::<usize>(), any::<usize>(), any::<usize>(), any::<bool>()).prop_map(
            |(form, name, value, huffman)| Step::Literal { form, name, value, huffman }
        ),
        1 => (0..=4096_usize).prop_map(Step::SizeUpdate),
        3 => Just(Step::EndBlock),
    ]
}

/// Encodes steps as blocks; a decoder of the client's keeps its choices valid.
fn blocks(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut client = Decoder::new();
    let (mut blocks, mut block) = (Vec::new(), BytesMut::new());
    for step in steps {
        let mut field = BytesMut::new();
        match step {
            Step::Indexed(choice) => {
                let indices = 61 + client.entries.len();
                write_index(0x80, 7, 1 + choice % indices, &mut field);
            }
            Step::Literal {
                form,
                name,
                value,
                huffman,
            } => {
                let form = [Form::Added, Form::NotAdded, Form::NeverAdded][form % 3];
                let (pattern, bits) = form.prefix();
                let names = [":authority", "x", "authority", ":authoritz", "x-request-id"];
                let indices = 61 + client.entries.len();
                // A new name, that of `:authority`, or any other.
                let index = match name % 3 {
                    0 => 0,
                    1 => 1,
                    _ => 1 + name / 3 % indices,
                };
                write_index(pattern, bits, index, &mut field);
                if index == 0 {
                    write_text(
                        names[name / 3 % names.len()].as_bytes(),
                        *huffman,
                        &mut field,
                    );
                }
                let long = "v".repeat(value % 2000);
                let values = [
                    "",
                    "outbound|8081||ratelimit.default.svc.cluster.local",
                    "good.example:80",
                    "tmp%2Fx.sock",
                    "spä ce",
                    &long,
                ];
                write_text(
                    values[value % values.len()].as_bytes(),
                    *huffman,
                    &mut field,
                );
            }
            Step::SizeUpdate(limit) => {
                // Allowed at the start of a block only.
                if !block.is_empty() {
                    continue;
                }
                write_index(0x20, 5, *limit, &mut field);
            }
            Step::EndBlock => {
                blocks.push(std::mem::take(&mut block).to_vec());
                continue;
            }
        }
        client.decode(&field);
        block.put_slice(&field);
    }
    blocks.push(block.to_vec());
    blocks
}

fn write_text(text: &[u8], huffman: bool, out: &mut BytesMut) {
    let encoded = match huffman {
        true => huffman::tests::encode(text),
        false => text.to_vec(),
    };
    write_index(if huffman { 0x80 } else { 0 }, 7, encoded.len(), out);
    out.put_slice(&encoded);
}

/// What the library should get of a field; none if the field is left out.
fn expected((name, value): (Vec<u8>, Vec<u8>)) -> Option<(Vec<u8>, Vec<u8>)> {
    if name != AUTHORITY || Authority::try_from(value.as_slice()).is_ok() {
        return Some((name, value));
    }
    (!value.is_empty()).then(|| (name, PLACEHOLDER[1..].to_vec()))
}

/// What a block becomes on its way to the HTTP/2 library.
fn pass(table: &mut HeaderTable, block: &[u8]) -> Vec<u8> {
    let mut checked = *table;
    match checked.check(block).unwrap() {
        Check::Accepted => {
            *table = checked;
            block.to_vec()
        }
        Check::NeedsRewrite => {
            let mut out = BytesMut::new();
            table.rewrite(block, &mut out).unwrap();
            assert!(out.len() <= block.len());
            out.to_vec()
        }
    }
}

proptest! {
    #[test]
    fn the_library_reads_what_the_client_wrote_but_for_refused_authorities(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut client, mut library) = (Decoder::new(), Decoder::new());
        let mut table = HeaderTable::default();
        for block in blocks(&steps) {
            let meant = client.decode(&block);
            let wanted: Vec<_> = meant.iter().cloned().filter_map(expected).collect();
            let was_translated = table.is_translated();
            let passed = pass(&mut table, &block);
            // Once replaced, an authority is valid for all blocks that refer to it.
            let got = library.decode(&passed);
            if got == meant && !was_translated {
                prop_assert_eq!(&passed, &block, "what is accepted stays as it is");
            }
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20),
    ) {
        let mut table = HeaderTable::default();
        for block in blocks {
            let mut checked = table;
            if checked.check(&block) == Ok(Check::Accepted) {
                table = checked;
            } else {
                let mut out = BytesMut::new();
                if table.rewrite(&block, &mut out) == Err(Malformed) {
                    break;
                }
                prop_assert!(out.len() <= block.len());
            }
        }
    }

    #[test]
    fn indices_survive_a_round_trip(value in 0..1_usize << 28, bits in 4..=7_u32) {
        let mut out = BytesMut::new();
        write_index(0, bits, value, &mut out);
        let mut rest = &out[..];
        prop_assert_eq!(read_index(&mut rest, bits), Ok(value));
        prop_assert!(rest.is_empty());
    }
}

#[test]
fn the_name_has_one_encoding_in_huffman() {
    assert_eq!(huffman::tests::encode(AUTHORITY), HUFFMAN_AUTHORITY);
}

#[test]
fn an_index_of_an_empty_authority_is_left_out() {
    let mut table = HeaderTable::default();
    assert_eq!(pass(&mut table, &[0x83, 0x81, 0x86]), [0x83, 0x86]);
    assert!(
        !table.is_translated(),
        "nothing was withheld from the table"
    );
}

#[test]
fn once_a_withheld_entry_is_forgotten_blocks_are_accepted_again() {
    let mut table = HeaderTable::default();
    let mut block = BytesMut::new();
    write_index(0x40, 6, EMPTY_AUTHORITY, &mut block);
    write_text(b"", false, &mut block);
    assert_eq!(pass(&mut table, &block), b"");
    for entries in 1..=128 {
        assert!(table.is_translated(), "after {entries} entries");
        pass(&mut table, b"\x40\x01x\x01y");
    }
    assert!(!table.is_translated());
}
