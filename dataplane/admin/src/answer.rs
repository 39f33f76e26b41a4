//! The form of answers: JSON, errors as `{"error": "…"}`.

use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest body that is read, in bytes; a description of a request is far smaller.
const MAX_BODY: usize = 256 << 10;

/// A JSON answer on several lines, for it is people who call this with curl.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string_pretty(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
            Err(error) => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
        }
    }
}

/// An error with its status.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl std::fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.message }))).into_response()
    }
}

/// A JSON body, whatever its content type says: `curl --data` sends another.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
        let bytes = bytes.map_err(|error| Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error))?;
        let value = serde_json::from_slice(&bytes);
        value.map(Self).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))
    }
}
