//! The reference plugins, run by the host.

use crate::support::{built, get, ok, open, options, plugin, start, values};
use weir_plugin_host::{Callback, StartError, Step};

#[test]
fn canary_by_cookie() {
    let bytes = built("canary-by-cookie");
    let of = |configuration| plugin(&bytes, options(configuration));
    assert_eq!(start(&of("nonsense")).unwrap_err(), StartError::Refused(Callback::Configure));
    let vm = start(&of("group=beta")).unwrap();
    for (cookie, request, response) in [("group=beta", vec!["canary"], "canary"), ("group=alpha", vec![], "stable")] {
        let context = open(&vm);
        let mut head = get("/a?b", &[("cookie", cookie), ("x-version", "forged")]);
        assert!(matches!(context.on_request_headers(&mut head, true), Step::Continue));
        assert_eq!(
            (values(&head.headers, "x-version"), head.uri.to_string()),
            (request.iter().map(ToString::to_string).collect(), "/a?b".to_owned())
        );
        let mut head = ok(&[]);
        assert!(matches!(context.on_response_headers(&mut head, true), Step::Continue));
        assert_eq!(values(&head.headers, "x-version"), [response]);
    }
    let totals = vm.plugin().totals();
    assert_eq!((totals.traps, totals.timeouts, totals.instances), (0, 0, 1));
    assert!(totals.calls >= 10 && totals.memory > 0, "{totals:?}");
}
