//! What an administrator does by hand, through the admin API.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Keycloak, credentials, member};
use crate::http1::Answer;

const ADMIN: &str = "/admin/realms/eazybank";
/// The administrator's token lives for a minute.
const ADMIN_TOKEN: Duration = Duration::from_secs(30);
const KEYS: &str = "/admin/realms/eazybank/components?type=org.keycloak.keys.KeyProvider";

/// What made a key, by its id.
pub struct Provider(String);

impl Keycloak {
    /// Adds an RSA key for RS256 that comes before all others with a lower priority.
    pub fn add_key(&self, priority: u32) -> Provider {
        let realm = self.admin("GET", ADMIN, None).json();
        let component = json!({
            "name": format!("rs256-{priority}"),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": {
                "priority": [priority.to_string()],
                "enabled": ["true"],
                "active": ["true"],
                "algorithm": ["RS256"],
                "keySize": ["2048"],
            },
        });
        let answer = self.admin("POST", &format!("{ADMIN}/components"), Some(&component));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let place = answer.header("location").unwrap();
        Provider(place.rsplit('/').next().unwrap().to_owned())
    }

    pub fn remove_key(&self, Provider(id): &Provider) {
        let answer = self.admin("DELETE", &format!("{ADMIN}/components/{id}"), None);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Changes some settings of the client `eazybank-NAME` and leaves the others.
    pub fn set_client(&self, name: &str, settings: &Value) {
        let answer = self.admin("PUT", &self.client(name), Some(settings));
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Lets it make an RSA key for the client `eazybank-NAME`, as its console does; the private half as PKCS#1.
    pub fn make_client_key(&self, name: &str) -> Vec<u8> {
        let path = format!("{}/certificates/jwt.credential/generate", self.client(name));
        let key = self.admin("POST", &path, None).json();
        STANDARD.decode(member(&key, "privateKey")).unwrap()
    }

    fn client(&self, name: &str) -> String {
        let (client, _) = credentials(name);
        let found = format!("{ADMIN}/clients?clientId={client}");
        let id = member(&self.admin("GET", &found, None).json()[0], "id");
        format!("{ADMIN}/clients/{id}")
    }

    /// No token of the realm that was issued before counts any more.
    pub fn set_not_before(&self, unix: u64) {
        let realm = json!({ "realm": "eazybank", "notBefore": unix });
        let answer = self.admin("PUT", ADMIN, Some(&realm));
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Tells the admin URLs of all clients, and says which of them took it.
    pub fn push_not_before(&self) -> Value {
        self.admin("POST", &format!("{ADMIN}/push-revocation"), None)
            .json()
    }

    /// Sets `active` or `enabled` of the provider that made this key.
    pub fn set_key(&self, kid: &str, setting: &str, value: bool) {
        let keys = self.admin("GET", &format!("{ADMIN}/keys"), None).json();
        let keys = keys["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == kid).unwrap();
        let components = self.admin("GET", KEYS, None).json();
        let mut components = components.as_array().unwrap().iter();
        // Keycloak wants the whole component back, not only what changes.
        let component = components.find(|c| c["id"] == key["providerId"]).unwrap();
        let mut component = component.clone();
        component["config"][setting] = json!([value.to_string()]);
        let path = format!("{ADMIN}/components/{}", member(&component, "id"));
        let answer = self.admin("PUT", &path, Some(&component));
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    #[track_caller]
    fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let token = self.administrator();
        let headers =
            format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.ask(method, path, &headers, &body);
        let status = answer.status;
        assert!(status < 300, "{method} {path}: {status} {}", answer.text());
        answer
    }

    #[track_caller]
    fn administrator(&self) -> String {
        let mut known = self.administrator.lock().unwrap();
        let fresh = known.as_ref().filter(|(at, _)| at.elapsed() < ADMIN_TOKEN);
        if let Some((_, token)) = fresh {
            return token.clone();
        }
        let asked = Instant::now();
        let fields = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", "admin"),
        ];
        let granted = self.form("/realms/master/protocol/openid-connect/token", "", &fields);
        assert_eq!(granted.status, 200, "admin: {}", granted.text());
        let token = member(&granted.json(), "access_token");
        *known = Some((asked, token.clone()));
        token
    }
}
