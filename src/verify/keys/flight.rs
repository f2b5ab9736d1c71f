//! A fetch under way, for all who wait for it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{KeyStore, State};

/// The channel says whether it brought keys; it closes without a word if the task died.
#[derive(Clone)]
pub(super) struct Flight {
    landed: watch::Receiver<Option<bool>>,
    /// Begun for an unknown `kid`.
    pub(super) demanded: bool,
}

impl Flight {
    pub(super) fn take_off(store: &Arc<KeyStore>, state: &mut State, demanded: bool) -> Self {
        let (landing, landed) = watch::channel(None);
        let flight = Flight { landed, demanded };
        state.in_flight = Some(flight.clone());
        let landing = Landing {
            store: store.clone(),
            channel: landing,
            demanded,
            outcome: Err("the fetch was interrupted".to_owned()),
        };
        let store = store.clone();
        tokio::spawn(async move { store.fetch(landing).await });
        flight
    }

    pub(super) async fn landed(&mut self) -> bool {
        match self.landed.wait_for(Option::is_some).await {
            Ok(outcome) => *outcome == Some(true),
            Err(_) => false,
        }
    }
}

/// Ends a flight however its task ends, a panic included.
pub(super) struct Landing {
    store: Arc<KeyStore>,
    channel: watch::Sender<Option<bool>>,
    demanded: bool,
    outcome: Result<(), String>,
}

impl Landing {
    pub(super) fn ended(mut self, outcome: Result<(), String>) {
        self.outcome = outcome;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let fault = std::mem::replace(&mut self.outcome, Ok(())).err();
        let brought = fault.is_none();
        let mut state = self.store.state();
        // Once per change: an issuer that is down for an hour is one line.
        if fault != state.fault
            && let Some(reason) = &fault
        {
            log::warn!("issuer {}: keys not fetched: {reason}", self.store.name);
        }
        state.fault = fault;
        state.cool.ended(brought, self.demanded);
        state.in_flight = None;
        drop(state);
        self.channel.send_replace(Some(brought));
    }
}
