//! What is this API, for programs?
//!
//! Input: [`OPERATIONS`], and the types that requests and answers are read and written as. Output:
//! a document of OpenAPI 3.1, served under [`PATH`]. Schemas are derived from the types, and the
//! tests hold every answer against them, so the document says what is and not what was.

use std::fmt;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::query::{
    DeleteLinkQuery, DeleteRuleQuery, DropsQuery, FlowsQuery, NoQuery, RouteQuery, RulesQuery,
};
use super::remote::PORT_DEFAULT;
use super::remote::rights::{self, Right};
use super::stream::Event;
use super::{
    Agents, AppliedTopology, Change, Drop, Flows, Interface, Invited, LinkStatus, LiveRoute,
    ManyRules, NewInvite, NewLink, NewRule, NewTopology, Refusal, RolloutStatus, RuleStatus, Stats,
    Status, TopologyPlan, TopologyStatus, TraceReport, TraceRequest, Undo, metrics,
};
use crate::identity::Role;
use crate::model::Configuration;

/// Where the document is.
pub const PATH: &str = "/v1/openapi.json";
/// Where Prometheus looks unless told otherwise.
pub const METRICS: &str = "/metrics";
/// What the document calls the certificates of operators and readers.
const CERTIFICATE: &str = "certificate";
/// Where events are.
pub const EVENTS: &str = "/v1/events";

/// How a type looks in JSON.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What comes back when all is well.
pub enum Answers {
    /// JSON of this form.
    Json(SchemaOf),
    /// What a change did: 201 where something is there now that was not.
    Change,
    /// Events of this form, one after the other.
    Stream(SchemaOf),
    /// Text of this media type.
    Text(&'static str),
}

/// One method of one path.
pub struct Operation {
    /// Of HTTP, in capitals.
    pub method: &'static str,
    /// With the names of its variable parts in braces.
    pub path: &'static str,
    /// What may stand behind the question mark, for people.
    pub query: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The same as `query`, for programs.
    pub parameters: SchemaOf,
    /// What is sent with it.
    pub body: Option<SchemaOf>,
    /// What comes back.
    pub answers: Answers,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.path, self.query)
    }
}

fn schema_of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Where the fields are wanted themselves, not a reference to them.
fn fields_of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

const fn get(path: &'static str, summary: &'static str, answers: Answers) -> Operation {
    Operation {
        method: "GET",
        path,
        query: "",
        summary,
        parameters: fields_of::<NoQuery>,
        body: None,
        answers,
    }
}

const fn change(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
    Operation {
        method,
        ..get(path, summary, Answers::Change)
    }
}

/// Everything that can be asked.
pub const OPERATIONS: &[Operation] = &[
    get(
        "/v1/status",
        "Is all well?",
        Answers::Json(schema_of::<Status>),
    ),
    get(
        "/v1/interfaces",
        "Which devices are ports, or could be?",
        Answers::Json(schema_of::<Vec<Interface>>),
    ),
    get(
        "/v1/links",
        "Which links are there?",
        Answers::Json(schema_of::<Vec<LinkStatus>>),
    ),
    Operation {
        body: Some(schema_of::<NewLink>),
        ..change("POST", "/v1/links", "Add a link")
    },
    Operation {
        query: "?force=true",
        parameters: fields_of::<DeleteLinkQuery>,
        ..change("DELETE", "/v1/links/{name}", "Delete a link")
    },
    Operation {
        query: "?network=",
        parameters: fields_of::<RulesQuery>,
        ..get(
            "/v1/rules",
            "Which rules are there, strongest first?",
            Answers::Json(schema_of::<Vec<RuleStatus>>),
        )
    },
    Operation {
        body: Some(schema_of::<NewRule>),
        ..change(
            "POST",
            "/v1/rules",
            "Add a rule, or replace the one with the same network, source and destination",
        )
    },
    Operation {
        body: Some(schema_of::<ManyRules>),
        ..change(
            "PATCH",
            "/v1/rules",
            "Change many rules at once, all of them or none",
        )
    },
    Operation {
        query: "?network=&source=&destination=",
        parameters: fields_of::<DeleteRuleQuery>,
        ..change("DELETE", "/v1/rules", "Delete a rule")
    },
    get(
        "/v1/stats",
        "What became of all frames?",
        Answers::Json(schema_of::<Stats>),
    ),
    Operation {
        query: "?network=&limit=&sort=packets|bytes",
        parameters: fields_of::<FlowsQuery>,
        ..get(
            "/v1/flows",
            "Which flows are there, largest first?",
            Answers::Json(schema_of::<Flows>),
        )
    },
    Operation {
        query: "?all=true",
        parameters: fields_of::<DropsQuery>,
        ..get(
            "/v1/drops",
            "What was dropped, where and why?",
            Answers::Json(schema_of::<Vec<Drop>>),
        )
    },
    Operation {
        method: "POST",
        body: Some(schema_of::<TraceRequest>),
        ..get(
            "/v1/trace",
            "Which way would this frame go?",
            Answers::Json(schema_of::<TraceReport>),
        )
    },
    get(
        "/v1/configuration",
        "What is wanted of this host? Without the links' cookies",
        Answers::Json(schema_of::<Configuration>),
    ),
    get(
        EVENTS,
        "What happens from now on, as server-sent events; `data` is of this form",
        Answers::Stream(schema_of::<Event>),
    ),
    get(
        "/v1/agents",
        "Who belongs to the overlay? On the proxy",
        Answers::Json(schema_of::<Agents>),
    ),
    change(
        "DELETE",
        "/v1/agents/{name}",
        "Forget an agent that is not connected. On the proxy",
    ),
    Operation {
        method: "POST",
        body: Some(schema_of::<NewInvite>),
        ..get(
            "/v1/invites",
            "Make a token that a host joins by, once. On the proxy",
            Answers::Json(schema_of::<Invited>),
        )
    },
    get(
        "/v1/topology",
        "What is the whole overlay? On the proxy",
        Answers::Json(schema_of::<TopologyStatus>),
    ),
    Operation {
        method: "POST",
        body: Some(schema_of::<NewTopology>),
        ..get(
            "/v1/topology",
            "Have another topology count, or see what that would change. On the proxy",
            Answers::Json(schema_of::<TopologyPlan>),
        )
    },
    Operation {
        method: "POST",
        body: Some(schema_of::<Undo>),
        ..get(
            "/v1/topology/undo",
            "Have the last topology count no more. On the proxy",
            Answers::Json(schema_of::<TopologyPlan>),
        )
    },
    get(
        "/v1/topology/history",
        "Which topologies were applied, oldest first? On the proxy",
        Answers::Json(schema_of::<Vec<AppliedTopology>>),
    ),
    get(
        "/v1/topology/rollout",
        "How far is the last change of the topology? On the proxy",
        Answers::Json(schema_of::<RolloutStatus>),
    ),
    Operation {
        query: "?source=&destination=&network=&bytes=&ethertype=",
        parameters: fields_of::<RouteQuery>,
        ..get(
            "/v1/topology/route",
            "Which way does a frame take over all hosts just now, as each of them answers? On the proxy",
            Answers::Json(schema_of::<LiveRoute>),
        )
    },
    get(
        PATH,
        "This document",
        Answers::Json(schema_of::<Map<String, Value>>),
    ),
    get(
        METRICS,
        "The books for Prometheus",
        Answers::Text(metrics::CONTENT_TYPE),
    ),
];

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let refusal = schema_of::<Refusal>(&mut generator);
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let described = describe(operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(operation.method.to_ascii_lowercase(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "vnet-agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Names are in snake case, units come last, what is not known is null. \
                Fields may be added under the same /v1; none is renamed or removed there.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [
            { "url": "http://localhost", "description": "The agent's Unix socket" },
            {
                "url": "https://{host}:{port}",
                "description": "TLS 1.3, where `api` under [agent] says so",
                "variables": {
                    "host": {
                        "default": Role::Agent.server_name(),
                        "description": "What to ask TLS for: an agent has this name, a proxy \
                            proxy.vnet.internal",
                    },
                    "port": { "default": PORT_DEFAULT.to_string() },
                },
            },
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                CERTIFICATE: {
                    "type": "mutualTLS",
                    "description": "Over TLS: a certificate of the overlay's authority for one of \
                        the roles that an operation names. The Unix socket's permissions say who \
                        may use that",
                },
            },
            "schemas": generator.take_definitions(true),
            "responses": {
                "Refused": {
                    "description": "Why not, and what to do about it. Nothing has changed",
                    "content": { "application/json": { "schema": refusal } },
                },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut described = json!({
        "summary": operation.summary,
        "security": security(operation),
        "parameters": parameters(operation, generator),
        "responses": responses(&operation.answers, generator),
    });
    if let (Some(body), Value::Object(fields)) = (operation.body, &mut described) {
        let body = json!({
            "required": true,
            "content": { "application/json": { "schema": body(generator) } },
        });
        fields.insert("requestBody".to_owned(), body);
    }
    described
}

/// Nothing for the socket, or one of these roles over TLS.
fn security(operation: &Operation) -> Value {
    let right = operation
        .method
        .parse()
        .map(|method| rights::of(&method, operation.path));
    let roles: &[Role] = match right {
        Ok(Right::Ask | Right::Plan) => &[Role::Operator, Role::Reader],
        Ok(Right::Change) | Err(_) => &[Role::Operator],
    };
    let roles: Vec<String> = roles.iter().map(Role::to_string).collect();
    json!([{}, { CERTIFICATE: roles }])
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = operation.path.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        let schema = json!({ "type": "string" });
        Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
    });
    let fields = (operation.parameters)(generator);
    let required: Vec<&Value> = fields
        .get("required")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |names| names.iter().collect());
    let properties = fields.get("properties").and_then(Value::as_object);
    let in_query = properties.into_iter().flatten().map(|(name, schema)| {
        let required = required.iter().any(|&field| field == name);
        json!({ "name": name, "in": "query", "required": required, "schema": schema })
    });
    in_path.chain(in_query).collect()
}

fn responses(answers: &Answers, generator: &mut SchemaGenerator) -> Value {
    let refused = json!({ "$ref": "#/components/responses/Refused" });
    let well = |description: &str, media_type: &str, schema: Value| {
        json!({
            "description": description,
            "content": { media_type: { "schema": schema } },
        })
    };
    match answers {
        Answers::Json(schema) => {
            let schema = schema(generator).to_value();
            json!({ "200": well("The answer", "application/json", schema), "default": refused })
        }
        Answers::Change => {
            let schema = schema_of::<Change>(generator).to_value();
            json!({
                "200": well("What it did", "application/json", schema.clone()),
                "201": well("It is there now and was not before", "application/json", schema),
                "default": refused,
            })
        }
        Answers::Stream(schema) => {
            let schema = schema(generator).to_value();
            json!({ "200": well("The stream", "text/event-stream", schema), "default": refused })
        }
        Answers::Text(media_type) => {
            let schema = json!({ "type": "string" });
            json!({ "200": well("Text", media_type, schema), "default": refused })
        }
    }
}
