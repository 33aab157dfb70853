//! Who may become primary, as the owner says it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::Duration;

/// Who may become primary.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// Rules by server; the first that matches wins, none means Neutral.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<PromotionRuleEntry>,

    /// How far from the lost primary a new one may be: Anywhere, Region, Zone.
    #[serde(default)]
    pub within: Within,

    /// A candidate whose lag is at or above this is refused. Needs lagQuery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<Duration>,

    /// Query that returns a replica's lag in seconds, for instance from a heartbeat table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub lag_query: Option<String>,

    /// What happens when the chosen server has not applied everything it received: Wait until it has, or Refuse.
    #[serde(default)]
    pub relay_log: RelayLog,
}

/// One rule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PromotionRuleEntry {
    /// Which servers it is about.
    #[serde(rename = "match")]
    pub matches: PromotionMatch,

    /// Must, Prefer, Neutral, PreferNot or MustNot become primary.
    pub rule: PromotionRule,
}

/// Which servers a rule is about; everything given must match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.host) || has(self.zone) || has(self.region) || has(self.labels) || has(self.serverUuid)", "match must name at least one of host, zone, region, labels and serverUuid"))]
pub struct PromotionMatch {
    /// Host name or IP address as a glob: * stands for any text, ? for one character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9._:*?-]+$')", "match.host must be a host name or IP address in which * and ? may stand for other characters"))]
    pub host: Option<String>,

    /// Failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub zone: Option<String>,

    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub region: Option<String>,

    /// Labels of the server or pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,

    /// The server's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 36, max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$')", "serverUuid must be a UUID"))]
    pub server_uuid: Option<String>,
}

/// How much a server is wanted as primary.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromotionRule {
    /// Before all others.
    Must,
    /// Rather than others.
    Prefer,
    /// No opinion.
    Neutral,
    /// Only when nobody better is there.
    PreferNot,
    /// Never.
    MustNot,
}

/// How far from the lost primary a new one may be.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Within {
    /// Anywhere.
    #[default]
    Anywhere,
    /// In its region.
    Region,
    /// In its zone.
    Zone,
}

/// Unapplied relay logs of the chosen server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RelayLog {
    /// Wait until they are applied.
    #[default]
    Wait,
    /// Refuse the promotion.
    Refuse,
}
