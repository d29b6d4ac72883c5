//! Who is reached by requests, as the endpoints of the Service say.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The uids of the pods whose addresses get requests. A pod that is leaving is served by
/// kube-proxy only where nobody else is ready, so what counts is `ready`, which is true when it is
/// not said: <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions>.
pub fn routed<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> BTreeSet<&'a str> {
    slices
        .into_iter()
        .flat_map(|slice| slice.endpoints.iter())
        .filter(|endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        })
        .filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref())
        .collect()
}
