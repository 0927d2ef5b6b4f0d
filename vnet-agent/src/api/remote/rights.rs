//! What may a reader ask, and what is for operators alone?
//!
//! Where nothing is said of an operation, it is for operators. A trace is one of those: what the
//! program would send has the link's cookie in it.

use axum::http::Method;

/// Plans where the body says so (`dry_run`), and changes where not.
const PLANS: [&str; 2] = ["/v1/topology", "/v1/topology/undo"];

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// A question: for readers too.
    Ask,
    /// A plan or a change, which its body says: plans are for readers too.
    Plan,
    /// For operators alone.
    Change,
}

/// What this operation is.
pub fn of(method: &Method, path: &str) -> Right {
    if method == Method::GET || method == Method::HEAD {
        Right::Ask
    } else if method == Method::POST && PLANS.contains(&path) {
        Right::Plan
    } else {
        Right::Change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::OPERATIONS;

    #[test]
    fn whatever_is_no_question_is_for_operators_and_plans_are_there() {
        for operation in OPERATIONS {
            let method: Method = operation.method.parse().unwrap();
            let right = of(&method, operation.path);
            match operation.method {
                "GET" => assert_eq!(right, Right::Ask, "{operation}"),
                _ if PLANS.contains(&operation.path) => assert_eq!(right, Right::Plan),
                _ => assert_eq!(right, Right::Change, "{operation}"),
            }
        }
        for path in PLANS {
            let is_it = |operation: &&crate::api::openapi::Operation| {
                (operation.method, operation.path) == ("POST", path)
            };
            assert!(
                OPERATIONS.iter().any(|operation| is_it(&operation)),
                "{path}"
            );
        }
        assert_eq!(of(&Method::POST, "/v1/topology/"), Right::Change);
        assert_eq!(of(&Method::OPTIONS, "/v1/status"), Right::Change);
    }
}
