//! What a service says about itself: its link, its kind, its options, limits and fields.

use serde_json::Value;

/// How many versions of a document are kept at most, and how many stay when old ones go, unless
/// the service says otherwise.
pub const RETENTION_LIMIT_DEFAULT: u32 = 1_000;
/// See [`RETENTION_LIMIT_DEFAULT`].
pub const RETENTION_FLOOR_DEFAULT: u32 = 500;
/// The largest body and the largest state of a document, in bytes, unless the service says
/// otherwise.
pub const STATE_BYTES_MAX_DEFAULT: usize = 256 * 1024;
/// How long a task lives unless its service says otherwise (Xenon's four hours).
pub const TASK_EXPIRATION_MICROS_DEFAULT: u64 = 4 * 3_600 * 1_000_000;

/// How a service behaves (Xenon's `ServiceOption`, as far as there is a choice: every document is
/// persisted, replicated and has one owner).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceOption {
    /// POST of a document that is there already becomes a PUT (of a task: answers as it stands).
    IdempotentPost,
    /// PUT and PATCH must carry the current `documentVersion`.
    StrictUpdate,
    /// Only POST, GET and DELETE.
    Immutable,
}

impl ServiceOption {
    /// Xenon's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdempotentPost => "IDEMPOTENT_POST",
            Self::StrictUpdate => "STRICT_UPDATE_CHECKING",
            Self::Immutable => "IMMUTABLE",
        }
    }
}

/// The type of a field (Xenon's `TypeName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    Long,
    Double,
    String,
    Boolean,
    /// An object with fields of its own.
    Object,
    /// A list or a set.
    Collection,
    Map,
    /// One of a few words.
    Enum,
    /// Anything.
    Any,
}

impl FieldType {
    /// Xenon's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::String => "STRING",
            Self::Boolean => "BOOLEAN",
            Self::Object | Self::Any => "PODO",
            Self::Collection => "COLLECTION",
            Self::Map => "MAP",
            Self::Enum => "ENUM",
        }
    }

    /// Whether a value is of this type. Null always is: it says that there is no value.
    pub fn allows(self, value: &Value) -> bool {
        value.is_null()
            || match self {
                Self::Long => value.is_i64() || value.is_u64(),
                Self::Double => value.is_number(),
                Self::String | Self::Enum => value.is_string(),
                Self::Boolean => value.is_boolean(),
                Self::Object | Self::Map => value.is_object(),
                Self::Collection => value.is_array(),
                Self::Any => true,
            }
    }
}

/// One field of a state, for checks, merging and `/template`.
#[derive(Clone, Debug)]
pub struct Field {
    /// As in JSON.
    pub name: String,
    pub field_type: FieldType,
    /// POST and PUT without it are refused.
    pub required: bool,
    /// PATCH unites lists, sets and maps with what is there (Xenon's `AUTO_MERGE_IF_NOT_NULL`).
    pub merge: bool,
    /// The service's own; a client's body with it is refused (Xenon's `SERVICE_USE`).
    pub internal: bool,
    /// Set when a document is made; a PUT or a PATCH that would change it is refused.
    pub fixed: bool,
    pub documentation: String,
    pub example: Option<Value>,
    /// What its values may be, as JSON Schema, where that says more than the type.
    pub schema: Option<Value>,
}

impl Field {
    pub fn new(name: impl Into<String>, field_type: FieldType) -> Self {
        Self {
            name: name.into(),
            field_type,
            required: false,
            merge: false,
            internal: false,
            fixed: false,
            documentation: String::new(),
            example: None,
            schema: None,
        }
    }

    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    #[must_use]
    pub fn merge(self) -> Self {
        Self { merge: true, ..self }
    }

    #[must_use]
    pub fn internal(self) -> Self {
        Self { internal: true, ..self }
    }

    /// Set when a document is made, and never changed.
    #[must_use]
    pub fn fixed(self) -> Self {
        Self { fixed: true, ..self }
    }

    /// One sentence for people.
    #[must_use]
    pub fn about(self, documentation: impl Into<String>) -> Self {
        Self { documentation: documentation.into(), ..self }
    }

    #[must_use]
    pub fn example(self, example: impl Into<Value>) -> Self {
        Self { example: Some(example.into()), ..self }
    }
}

/// What a service says about itself.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The link of the factory: `/core/examples`.
    pub factory: String,
    /// `documentKind` of the documents.
    pub kind: String,
    pub options: Vec<ServiceOption>,
    /// When a document has more versions than this, the oldest go...
    pub retention_limit: u32,
    /// ... until this many are left.
    pub retention_floor: u32,
    /// How long a new document lives when its body says nothing; 0 is for ever.
    pub expiration_micros: u64,
    /// The largest body and the largest state, in bytes.
    pub state_bytes_max: usize,
    /// The fields that are known. Others are judged by the state type alone: a typed state leaves
    /// out what it does not know.
    pub fields: Vec<Field>,
    /// Values of `kind` that the service's own PATCH handler knows, beside the built-in ones.
    pub patch_kinds: Vec<String>,
    /// One sentence for people.
    pub documentation: String,
    /// Set by [`crate::Catalogue::with_task`].
    pub is_task: bool,
    /// The handlers may take long: see [`Spec::slow`].
    pub slow: bool,
}

/// The largest state that a service may have, in bytes: as large as a body. An entry of the log and
/// an answer with it fit into a frame between nodes many times over.
pub(crate) const STATE_BYTES_MAX: usize = 8 << 20;

impl Spec {
    pub fn new(factory: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            factory: factory.into(),
            kind: kind.into(),
            options: Vec::new(),
            retention_limit: RETENTION_LIMIT_DEFAULT,
            retention_floor: RETENTION_FLOOR_DEFAULT,
            expiration_micros: 0,
            state_bytes_max: STATE_BYTES_MAX_DEFAULT,
            fields: Vec::new(),
            patch_kinds: Vec::new(),
            documentation: String::new(),
            is_task: false,
            slow: false,
        }
    }

    #[must_use]
    pub fn option(mut self, option: ServiceOption) -> Self {
        self.options.push(option);
        self
    }

    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// How many versions are kept at most, and how many stay when old ones go.
    #[must_use]
    pub fn retention(self, limit: u32, floor: u32) -> Self {
        Self { retention_limit: limit, retention_floor: floor, ..self }
    }

    /// How long a new document lives when its body says nothing, in microseconds.
    #[must_use]
    pub fn expires_after(self, micros: u64) -> Self {
        Self { expiration_micros: micros, ..self }
    }

    /// The largest body and the largest state, in bytes.
    #[must_use]
    pub fn state_bytes_max(self, bytes: usize) -> Self {
        Self { state_bytes_max: bytes, ..self }
    }

    /// A value of `kind` that the service's PATCH handler knows.
    #[must_use]
    pub fn patch_kind(mut self, kind: impl Into<String>) -> Self {
        self.patch_kinds.push(kind.into());
        self
    }

    /// One sentence for people.
    #[must_use]
    pub fn about(self, documentation: impl Into<String>) -> Self {
        Self { documentation: documentation.into(), ..self }
    }

    /// The handlers may take longer than a fraction of a millisecond, or wait for something: they
    /// are run on threads beside the node's own, and hold up nothing but their own document.
    /// (Others that turn out to be slow are run there as well, once they were.)
    #[must_use]
    pub fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    pub fn has(&self, option: ServiceOption) -> bool {
        self.options.contains(&option)
    }

    /// The description of a field, if the service gave one.
    pub fn field_named(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}
