//! A till whose address changes under its link, as on a mobile network or behind a router that forgets.

use super::*;

/// Passes datagrams on between one till and a hub, from a new address each time `way` is told so. Where the till dials.
async fn passing_on(hub: SocketAddr, mut way: watch::Receiver<u32>) -> SocketAddr {
    let front = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
    let at = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut upward, mut downward, mut till) = ([0; 2048], [0; 2048], None);
        let mut back = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
        loop {
            tokio::select! {
                changed = way.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    back = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
                }
                Ok((length, from)) = front.recv_from(&mut upward) => {
                    till = Some(from);
                    let _ = back.send_to(&upward[..length], hub).await;
                }
                Ok((length, _)) = back.recv_from(&mut downward) => {
                    let Some(till) = till else { continue };
                    let _ = front.send_to(&downward[..length], till).await;
                }
            }
        }
    });
    at
}

#[tokio::test]
async fn a_link_outlives_a_change_of_address_again_and_again() {
    let company = company();
    let (change, changes) = watch::channel(0);
    let at = passing_on(company.at, changes).await;
    let mut link = company.till(1).dial(at, Role::Hub).await.unwrap();
    let mut there = timeout(SOON, company.hub.accept()).await.unwrap().unwrap();
    let mut seen = vec![there.remote()];
    for turn in 1..=6_u32 {
        change.send(turn).unwrap();
        let said = turn.to_le_bytes().to_vec();
        link.send(said.clone()).await.unwrap();
        assert_eq!(timeout(SOON, there.recv()).await.unwrap().unwrap(), Some(said.clone()));
        there.send(said.clone()).await.unwrap();
        assert_eq!(timeout(SOON, link.recv()).await.unwrap().unwrap(), Some(said));
        assert!(!seen.contains(&there.remote()), "the hub sees where it is now");
        seen.push(there.remote());
    }
    assert_eq!(company.hub.peers().len(), 1);
}

#[tokio::test]
async fn many_dials_of_one_till_do_not_get_what_is_each_others() {
    let company = company();
    let till = company.till(1);
    let mut ended = Vec::new();
    for turn in 0..8_u8 {
        // The link before is replaced, and still says goodbye while this one works.
        let mut link = till.dial(company.at, Role::Hub).await.unwrap();
        let mut there = timeout(SOON, company.hub.accept()).await.unwrap().unwrap();
        link.send(vec![turn]).await.unwrap();
        assert_eq!(timeout(SOON, there.recv()).await.unwrap().unwrap(), Some(vec![turn]));
        there.send(vec![turn, turn]).await.unwrap();
        assert_eq!(timeout(SOON, link.recv()).await.unwrap().unwrap(), Some(vec![turn, turn]));
        ended.push((link, there));
    }
    assert!(ended.last().unwrap().0.control().stats().received_bytes > 0);
    assert_eq!(company.hub.peers(), [NodeKey::from_seed(&[1; 32]).public()]);
}
