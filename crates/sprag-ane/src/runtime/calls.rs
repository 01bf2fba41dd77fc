//! The calls of the private framework, in one table: what the Mac's side sends and what docs/ane.md lists. Known on every
//! machine, so that both can be compared anywhere.
//!
//! Sources: maderix/ANE (`bridge/ane_bridge.m`, `training/ane_runtime.h`, `m5result.md`), ncdrone/autoresearch-ANE, Orion (API
//! reference), h3.c-ane, ane-infer.

/// Where the framework is.
pub const FRAMEWORK: &str = "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";

/// The quality of service that everybody uses; 0 to 63 work alike (m5result.md).
pub const QOS: u32 = 21;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Class that it is sent to, or to an object of which.
    pub class: &'static str,
    /// Whether it goes to the class itself.
    pub to_class: bool,
    /// Its selector.
    pub selector: &'static str,
    /// Types of its arguments, in order.
    pub arguments: &'static [&'static str],
    /// What it gives.
    pub returns: &'static str,
    /// What for.
    pub purpose: &'static str,
}

macro_rules! calls {
    ($($name:ident $class:literal $kind:ident $selector:literal [$($argument:literal),*] $returns:literal $purpose:literal)*) => {
        $(
            #[doc = $purpose]
            pub const $name: Call = Call {
                class: $class,
                to_class: calls!(@ $kind),
                selector: $selector,
                arguments: &[$($argument),*],
                returns: $returns,
                purpose: $purpose,
            };
        )*

        /// All of them.
        pub const ALL: &[Call] = &[$($name),*];
    };
    (@ class) => { true };
    (@ object) => { false };
}

calls! {
    DESCRIPTOR "_ANEInMemoryModelDescriptor" class "modelWithMILText:weights:optionsPlist:"
        ["NSData", "NSDictionary", "id"] "id"
        "Describes a program: its text as UTF-8 data, its weight files by name, no options."
    MODEL "_ANEInMemoryModel" class "inMemoryModelWithDescriptor:" ["id"] "id"
        "Makes a model of a description."
    IDENTIFIER "_ANEInMemoryModel" object "hexStringIdentifier" [] "NSString"
        "Names the model by its content; its folder has that name."
    COMPILED "_ANEInMemoryModel" object "compiledModelExists" [] "BOOL"
        "Says whether the model was compiled before."
    COMPILE "_ANEInMemoryModel" object "compileWithQoS:options:error:" ["unsigned int", "NSDictionary", "NSError **"] "BOOL"
        "Compiles; reads the folder, and writes `net.plist` and `data` there."
    LOAD "_ANEInMemoryModel" object "loadWithQoS:options:error:" ["unsigned int", "NSDictionary", "NSError **"] "BOOL"
        "Puts a compiled model on the device."
    EVALUATE "_ANEInMemoryModel" object "evaluateWithQoS:options:request:error:"
        ["unsigned int", "NSDictionary", "id", "NSError **"] "BOOL"
        "Evaluates once, and waits for it."
    UNLOAD "_ANEInMemoryModel" object "unloadWithQoS:error:" ["unsigned int", "NSError **"] "BOOL"
        "Takes a model off the device; the folder goes with it."
    INNER_MODEL "_ANEInMemoryModel" object "model" [] "id"
        "The model that the client takes."
    WRAP "_ANEIOSurfaceObject" class "objectWithIOSurface:" ["IOSurfaceRef"] "id"
        "Wraps a surface for requests."
    REQUEST "_ANERequest" class
        "requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:"
        ["NSArray", "NSArray", "NSArray", "NSArray", "id", "id", "NSNumber"] "id"
        "Binds surfaces to ports by number; can be used again and again."
    CLIENT "_ANEClient" object "initWithRestrictedAccessAllowed:" ["BOOL"] "id"
        "A client that may talk to the driver itself."
    DIRECT "_ANEClient" object "doEvaluateDirectWithModel:options:request:qos:error:"
        ["id", "NSDictionary", "id", "unsigned int", "NSError **"] "BOOL"
        "Evaluates past the daemon: 106 instead of 117 microseconds (ane-infer, M5)."
    REAL_TIME "_ANEClient" object "evaluateRealTimeWithModel:options:request:error:"
        ["id", "NSDictionary", "id", "NSError **"] "BOOL"
        "Evaluates in real time; sources disagree whether it needs an entitlement."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_what_is_sent() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ane.md");
        let document = std::fs::read_to_string(path).unwrap();
        for call in ALL {
            let sign = if call.to_class { '+' } else { '-' };
            let arguments =
                if call.arguments.is_empty() { "none".to_owned() } else { call.arguments.join(", ") };
            let row = format!(
                "| {sign}{} | `{}` | {arguments} | {} | {} |",
                call.class, call.selector, call.returns, call.purpose
            );
            assert!(document.contains(&row), "docs/ane.md lacks {row}");
        }
    }

    #[test]
    fn selectors_take_as_many_arguments_as_they_say() {
        for call in ALL {
            assert_eq!(call.selector.matches(':').count(), call.arguments.len(), "{}", call.selector);
        }
    }
}
