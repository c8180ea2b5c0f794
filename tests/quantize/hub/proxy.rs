//! Models behind a proxy, which alone resolves names; and what a server with a public name may lead to.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Desk, left, repository};

/// A proxy that tunnels every connection to one server, whatever host it is asked for.
struct Tunnel {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    fn to(server: String) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let record = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, record) = (server.clone(), record.clone());
                thread::spawn(move || tunnel(stream, &server, &record));
            }
        });
        Tunnel { address, asked }
    }
}

fn tunnel(stream: TcpStream, server: &str, record: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut client = BufReader::new(stream);
    let mut request = String::new();
    client.read_line(&mut request)?;
    let mut line = String::new();
    while client.read_line(&mut line)? > 2 {
        line.clear();
    }
    record.lock().unwrap().push(request);
    let mut upstream = TcpStream::connect(server)?;
    client.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut answers, mut back) = (upstream.try_clone()?, client.get_mut().try_clone()?);
    thread::spawn(move || io::copy(&mut answers, &mut back));
    io::copy(&mut client, &mut upstream)?;
    Ok(())
}

#[test]
fn a_proxy_is_asked_for_other_hosts_and_not_for_those_left_out() {
    let (desk, folder) = Desk::with_tiny();
    // Few enough files for one page: the server names the next by its own address.
    let mut small = repository(&folder);
    small
        .files
        .retain(|name, _| ["config.json", "model.safetensors"].contains(&name.as_str()));
    desk.server.put("org/tiny", small);
    let tunnel = Tunnel::to(desk.server.host());
    // Weights are sent from a port of this machine, to which a server with a public name must not lead.
    let run = |proxy: &str, endpoint: &str, without: &str| {
        let mut command = desk.command(&["fit", "org/tiny", "--format", "json"]);
        command
            .env(proxy, &tunnel.address)
            .env("HF_ENDPOINT", endpoint)
            .env("NO_PROXY", without);
        left(command.output().unwrap())
    };
    for proxy in ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"] {
        let run = run(proxy, "http://hub.example", "");
        assert_eq!(run.code, 2);
        assert!(
            run.err
                .contains("is on a private network; it is not followed"),
            "{}",
            run.err
        );
        let asked = std::mem::take(&mut *tunnel.asked.lock().unwrap());
        assert!(!asked.is_empty(), "{proxy}");
        for request in asked {
            assert_eq!(request.trim_end(), "CONNECT hub.example:80 HTTP/1.1");
        }
        let asked = desk.server.asked();
        assert!(!asked.is_empty() && asked.iter().all(|asked| !asked.second));
    }
    let direct = run("ALL_PROXY", &desk.server.url(), "127.0.0.1");
    assert_eq!(direct.code, 0, "{}", direct.err);
    assert!(tunnel.asked.lock().unwrap().is_empty());
}
