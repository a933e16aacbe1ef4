//! The table of fields in two other forms: a JSON schema for editors and Markdown for the README.

use serde_json::{Map, Value, json};

use super::fields::{Field, Kind, Level};

/// JSON schema (draft 2020-12) of a policy file, for editors and other tools.
///
/// Merge keys are carried out before a schema is applied, and texts may be written as numbers or
/// booleans, since their source text is kept. Null is as good as not written, so it stands only
/// where a field may be left out.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    for level in Level::ALL {
        if level != Level::Root {
            definitions.insert(definition(level).to_owned(), object(level));
        }
    }
    let mut root = object(Level::Root);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), json!(DRAFT));
        root.insert("title".into(), json!("Tollgate policy"));
        root.insert("$defs".into(), Value::Object(definitions));
    }
    root
}

/// The table of policy fields as Markdown, for the README.
#[must_use]
pub fn policy_table() -> String {
    let mut table = String::from("| field | holds | default | meaning |\n|---|---|---|---|\n");
    for level in Level::ALL {
        for field in level.fields() {
            let default = match field.default {
                "" => "required".to_owned(),
                text => text.to_owned(),
            };
            let prefix = prefix(level);
            table.push_str(&format!(
                "| `{prefix}{}` | {} | {default} | {} |\n",
                field.name,
                holds(field.kind),
                field.doc
            ));
        }
    }
    table
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::Root => "",
        Level::Descriptor => "descriptors[].",
        Level::RateLimit => "rate_limit.",
        Level::Replaces => "rate_limit.replaces[].",
    }
}

fn holds(kind: Kind) -> String {
    match kind {
        Kind::Word { words, .. } => words.join(", "),
        Kind::Count { min, max } => format!("{min} to {max}"),
        _ => kind.describe(),
    }
}

fn object(level: Level) -> Value {
    let properties: Map<String, Value> = level
        .fields()
        .map(|field| (field.name.to_owned(), property(field)))
        .collect();
    let required: Vec<&str> = level
        .fields()
        .filter(|field| field.default.is_empty())
        .map(|field| field.name)
        .collect();
    let mut object = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if level == Level::RateLimit {
        // Unlimited stands instead of the numbers.
        object["if"] = json!({
            "properties": { "unlimited": { "const": true } },
            "required": ["unlimited"],
        });
        object["then"] = json!({ "properties": { "unit": false } });
        object["else"] = json!({ "required": required });
    } else {
        object["required"] = json!(required);
    }
    object
}

fn property(field: &Field) -> Value {
    let mut schema = match field.kind {
        Kind::Text => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Word {
            words,
            any_case: true,
        } => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": pattern(words) }] })
        }
        Kind::Word { words, .. } => json!({ "enum": words }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::List(level) => json!({ "type": "array", "items": reference(level) }),
        Kind::Map(level) => reference(level),
        Kind::Free => json!({ "type": "object" }),
    };
    if field.kind == Kind::Text && field.default.is_empty() {
        schema["minLength"] = json!(1);
    }
    if !field.default.is_empty() {
        schema = or_null(schema);
    }
    schema["description"] = json!(field.doc);
    if let Kind::Flag = field.kind {
        schema["default"] = json!(field.default == "true");
    }
    schema
}

/// The same, or null. `anyOf` only where it must be: editors tell little of what it refuses.
fn or_null(mut schema: Value) -> Value {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
        return schema;
    }
    let mut types = match schema.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(one) => vec![one.clone()],
        None => return json!({ "anyOf": [schema, { "type": "null" }] }),
    };
    types.push(json!("null"));
    schema["type"] = Value::Array(types);
    schema
}

/// Matches the words in any letter case, which a schema's patterns have no flag for.
fn pattern(words: &[&str]) -> String {
    let any_case = |word: &&str| -> String {
        word.chars()
            .map(|c| format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()))
            .collect()
    };
    let words: Vec<String> = words.iter().map(any_case).collect();
    format!("^({})$", words.join("|"))
}

fn reference(level: Level) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition(level)) })
}

fn definition(level: Level) -> &'static str {
    match level {
        Level::Root => "policy",
        Level::Descriptor => "descriptor",
        Level::RateLimit => "rate_limit",
        Level::Replaces => "replaces",
    }
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
