//! Cross-origin pages cannot use the cookies of a visitor.

use roomcast_server::Config;
use roomcast_server::http::{Cors, IpNet, OriginPolicy};
use roomcast_server::metrics::Limit;

use crate::support::{POLLING, Rig, UPGRADE, WEBSOCKET};

const COOKIE: &str = "Cookie: session=secret\r\n";
const FOREIGN: &str = "Origin: https://evil.example\r\n";
const OWN: &str = "Origin: https://chat.example\r\n";

/// Requests a session over each transport and returns the statuses.
async fn statuses(rig: &Rig, headers: &str) -> [u16; 3] {
    let upgrade = format!("{UPGRADE}{headers}");
    [
        rig.get(POLLING, headers).await.status,
        rig.get(WEBSOCKET, &upgrade).await.status,
        rig.get("/ws", &upgrade).await.status,
    ]
}

#[tokio::test]
async fn cve_2019_13611_rejects_foreign_pages() {
    let rig = Rig::with_config(Config::new());
    assert_eq!(statuses(&rig, &format!("{COOKIE}{FOREIGN}")).await, [403; 3]);
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::Origin), 3);
    assert_eq!(rig.io.client_count(), 0);
    for headers in [FOREIGN.to_owned(), format!("{COOKIE}{OWN}"), COOKIE.to_owned(), String::new()] {
        assert_eq!(statuses(&rig, &headers).await, [200, 101, 101], "{headers}");
    }
}

#[tokio::test]
async fn rejection_explains_how_to_allow_origin() {
    let rig = Rig::with_config(Config::new());
    for (target, upgrade) in [(POLLING, ""), (WEBSOCKET, UPGRADE), ("/ws", UPGRADE)] {
        let refused = rig.get(target, &format!("{upgrade}{COOKIE}{FOREIGN}")).await;
        assert!(refused.body.contains("Cors::allow_origin"), "{target}: {}", refused.body);
        assert!(!refused.body.contains("evil"), "the answer does not echo the request");
    }
    let json = rig.get(POLLING, &format!("{COOKIE}{FOREIGN}")).await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert!(json.body.starts_with("{\"code\":4,\"message\":\""), "{}", json.body);
}

#[tokio::test]
async fn checks_origin_of_upgrade_requests() {
    let rig = Rig::with_config(Config::new());
    let sid = rig.get(POLLING, "").await.sid();
    let target = format!("{WEBSOCKET}&sid={sid}");
    assert_eq!(rig.get(&target, &format!("{UPGRADE}{COOKIE}{FOREIGN}")).await.status, 403);
    assert_eq!(rig.get(&target, &format!("{UPGRADE}{COOKIE}{OWN}")).await.status, 101);
}

#[tokio::test]
async fn allows_configured_origin_to_read() {
    let rig = Rig::with_config(
        Config::new().http(|http| http.cors(Cors::new().allow_origin("https://app.example"))),
    );
    let page = format!("{COOKIE}Origin: https://app.example\r\n");
    assert_eq!(statuses(&rig, &page).await, [200, 101, 101]);
    let opened = rig.get(POLLING, &page).await;
    assert_eq!(opened.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(opened.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(opened.header("vary"), Some("Origin"));
    let other = rig.get(POLLING, FOREIGN).await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    assert_eq!(other.header("vary"), Some("Origin"));

    let mut preflight = rig.connect().await;
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    preflight.send(&format!("OPTIONS {POLLING} HTTP/1.1\r\nHost: x\r\n{page}{asks}\r\n")).await;
    let answer = preflight.answer().await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type"));
}

#[tokio::test]
async fn allow_origin_keeps_other_cors_settings() {
    let config = Config::new().http(|http| http.cors(Cors::any().allow_origin("https://app.example")));
    let rig = Rig::with_config(config);
    let page = rig.get(POLLING, FOREIGN).await;
    assert_eq!(page.header("access-control-allow-origin"), Some("*"));
    assert_eq!(page.header("access-control-allow-credentials"), None);
    let app = rig.get(POLLING, "Origin: https://app.example\r\n").await;
    assert_eq!(app.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(app.header("access-control-allow-credentials"), Some("true"));
}

#[tokio::test]
async fn applies_each_origin_policy() {
    let strict =
        Rig::with_config(Config::new().http(|http| http.cors(Cors::new().origin_policy(OriginPolicy::Same))));
    assert_eq!(statuses(&strict, FOREIGN).await, [403; 3]);
    assert_eq!(statuses(&strict, OWN).await, [200, 101, 101]);
    let lax =
        Rig::with_config(Config::new().http(|http| http.cors(Cors::new().origin_policy(OriginPolicy::Any))));
    assert_eq!(statuses(&lax, &format!("{COOKIE}{FOREIGN}")).await, [200, 101, 101]);
}

#[tokio::test]
async fn cors_without_credentials_rejects_cookies() {
    let cors = |credentials| Cors::origins(["https://app.example"]).credentials(credentials);
    let page = "Origin: https://app.example\r\n";
    let rig = Rig::with_config(Config::new().http(|http| http.cors(cors(false))));
    assert_eq!(statuses(&rig, &format!("{COOKIE}{page}")).await, [403; 3]);
    assert_eq!(statuses(&rig, page).await, [200, 101, 101]);
    let opened = rig.get(POLLING, page).await;
    assert_eq!(opened.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(opened.header("access-control-allow-credentials"), None);
    let with = Rig::with_config(Config::new().http(|http| http.cors(cors(true))));
    assert_eq!(statuses(&with, &format!("{COOKIE}{page}")).await, [200, 101, 101]);
}

#[tokio::test]
async fn normalizes_origins_before_comparing() {
    let config = Config::new().http(|http| {
        let named = Cors::origins(["http://A.example:80", "null"]).credentials(true);
        http.cors(named.allow_origin(" HTTPS://B\u{fc}cher.Example:443/ ").allow_origin("file:///"))
    });
    let rig = Rig::with_config(config);
    for origin in ["https://xn--bcher-kva.example", "file://", "http://a.example", "null"] {
        let page = format!("{COOKIE}Origin: {origin}\r\n");
        assert_eq!(statuses(&rig, &page).await, [200, 101, 101], "{origin}");
        let opened = rig.get(POLLING, &page).await;
        assert_eq!(opened.header("access-control-allow-origin"), Some(origin));
    }
    for origin in ["https://bcher.example", "file://host", "http://a.example:443"] {
        assert_eq!(statuses(&rig, &format!("{COOKIE}Origin: {origin}\r\n")).await, [403; 3], "{origin}");
    }
}

#[tokio::test]
async fn outermost_trusted_proxy_sets_host() {
    let trusted = ["127.0.0.1/32", "10.0.0.2/32"].map(|text| text.parse::<IpNet>().expect("a network"));
    let rig = Rig::with_config(Config::new().http(|http| http.trusted_proxies(trusted)));
    let page = format!("{COOKIE}Origin: https://shop.example\r\n");
    let two = "X-Forwarded-For: 198.51.100.7, 10.0.0.2\r\n";
    let hosts = |hosts: &str| format!("{page}{two}X-Forwarded-Host: {hosts}\r\n");
    assert_eq!(statuses(&rig, &hosts("shop.example, inner")).await, [200, 101, 101]);
    assert_eq!(statuses(&rig, &hosts("shop.example, other.example, inner")).await, [403; 3]);
    assert_eq!(statuses(&rig, &page).await, [403; 3]);
}
