//! What an app wrote last, asked of its node.

use serde::{Deserialize, Serialize};

use crate::ids::AppName;

/// `POST /v1/output`, from a node, by its certificate: what it was asked for with [`crate::messages::Show`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputRequest {
    /// The app.
    pub app: AppName,
    /// The number of the asking.
    pub request: u64,
    /// The last lines, oldest first, at most [`crate::limits::OUTPUT_LINES_MAX`]. Values of the app's variables are not in it:
    /// their names stand for them.
    pub lines: Vec<String>,
}

/// Answer to [`OutputRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputTaken {
    /// Whether somebody still waited for it.
    pub taken: bool,
}

/// Answer to `GET /v1/nodes/{node}/output/{app}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputView {
    /// The app.
    pub app: AppName,
    /// Its last lines, oldest first, as the node says; printable.
    pub lines: Vec<String>,
}
