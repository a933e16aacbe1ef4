//! The committed protobuf descriptors are those of `proto/`, and the messages are Envoy's.

use std::path::Path;

/// Rewrite with `make golden`.
#[test]
fn descriptors_are_what_the_proto_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&root]).unwrap();
    compiler
        .include_imports(true)
        .open_file("envoy/service/ratelimit/v3/rls.proto")
        .unwrap();
    let compiled = compiler.encode_file_descriptor_set();
    let committed = root.join("descriptors.bin");
    if crate::update_golden() {
        std::fs::write(&committed, &compiled).unwrap();
    }
    assert!(
        std::fs::read(&committed).unwrap() == compiled,
        "proto/descriptors.bin is not what proto/ compiles to; run `make golden`"
    );
}
