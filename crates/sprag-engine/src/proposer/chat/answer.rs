//! The answer of a model: its schema, and how it is read out of what the model said.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::wire::Reply;
use crate::proposer::offer::{Offer, Unusable};

/// What is said to a model whose answer cannot be used.
pub(super) fn complaint(problem: &Unusable) -> String {
    format!("{}\n\nNothing was changed. Answer again with the whole object and all of its edits.", problem.0)
}

/// Schema of the answer. Every key is required, because the strict mode of some servers wants that; what may be missing
/// may be null.
pub(super) fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Offer>().to_value();
    plain(&mut schema);
    schema
}

/// Takes out what only some servers know.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            for name in ["$schema", "title", "format", "default"] {
                // A property may have the same name, and is an object.
                if keys.get(name).is_some_and(|value| !value.is_object()) {
                    keys.remove(name);
                }
            }
            keys.remove("minimum");
            keys.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// Reads it: the object, whatever stands around it.
pub(super) fn read(reply: &Reply) -> Result<Offer, Unusable> {
    reply.whole()?;
    let text = reply.text();
    // What a model thought aloud before is no part of the answer.
    let answer = text.rsplit_once("</think>").map_or(text.as_str(), |(_, answer)| answer);
    let (Some(from), Some(to)) = (answer.find('{'), answer.rfind('}')) else {
        return Err(Unusable::new("The answer holds no JSON object."));
    };
    let object = answer.get(from..=to).unwrap_or_default();
    serde_json::from_str(object)
        .map_err(|cause| Unusable::new(format!("The answer is not JSON as the schema says: {cause}.")))
}
