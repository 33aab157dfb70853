//! What the schema already has and this version does not do yet: refused, never silently ignored.
//!
//! Each entry becomes a CEL rule of `MysqlCluster`'s `spec`. Whoever builds one of these things deletes
//! its entry; nothing else refuses it.

/// A field that is refused while its machinery is missing.
#[derive(Debug, Clone, Copy)]
pub struct Unserved {
    /// CEL expression on `spec` that holds while the field is not used.
    pub rule: &'static str,
    /// What the user is told.
    pub message: &'static str,
}

/// Everything that is refused for now.
pub const UNSERVED: &[Unserved] = &[
    Unserved { rule: "!has(self.hooks) || size(self.hooks) == 0", message: "hooks are not served by this version yet" },
    Unserved {
        rule: "self.discovery.addresses != 'Resolve'",
        message: "discovery.addresses Resolve is not served by this version yet: name servers by IP address",
    },
    Unserved {
        rule: "self.failover.detachLost",
        message: "failover.detachLost false is not served by this version yet: \
                  the receivers of replicas that cannot follow the new primary stay stopped",
    },
    Unserved {
        rule: "!has(self.routing) || !has(self.routing.replicaService)",
        message: "routing.replicaService is not served by this version yet",
    },
    Unserved {
        rule: "!has(self.routing) || !has(self.routing.dns)",
        message: "routing.dns is not served by this version yet",
    },
    Unserved {
        rule: "!has(self.routing) || !has(self.routing.proxies) || size(self.routing.proxies) == 0",
        message: "routing.proxies are not served by this version yet",
    },
];
