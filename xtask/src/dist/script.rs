//! `install.sh` of a release: made for its version and address, and tried with a folder and with a server, with a whole
//! archive and with one whose checksum is another.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::output_of;

/// What names the address of the release that is made.
const ADDRESS: &str = "ORINPLAN_RELEASES";

/// Writes the script into `work`; its name.
pub(super) fn write(root: &Path, work: &Path, version: &str) -> anyhow::Result<String> {
    let script = fs::read_to_string(root.join("packaging/install.sh"))?;
    let script = script.replace("@VERSION@", version);
    let script = match std::env::var(ADDRESS) {
        Ok(address) => script.replace("@RELEASES@", &format!("'{address}'")),
        Err(_) => script,
    };
    let name = "install.sh";
    fs::write(work.join(name), script)?;
    Ok(name.to_owned())
}

/// Installs from `work` in both ways, and refuses a changed archive.
///
/// # Errors
/// A step that fails, or one that should and does not.
pub(super) fn try_out(work: &Path, python: &Path) -> anyhow::Result<()> {
    let home = work.join("home");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    let install = |from: &str, prefix: &str| {
        let mut script = Command::new("sh");
        script
            .arg(work.join("install.sh"))
            .args(["--from", from, "--prefix"])
            .arg(home.join(prefix))
            .env("HOME", &home);
        script
    };
    let folder = work.display().to_string();
    let server = Server::start(work, python)?;
    let address = format!("http://127.0.0.1:{PORT}");
    for (from, prefix) in [(&folder, "from-folder"), (&address, "from-server")] {
        output_of(work, &mut install(from, prefix))?;
        let program = home.join(prefix).join("bin/orinplan");
        output_of(work, Command::new(program).arg("--version"))?;
        let page = home.join(prefix).join("share/man/man1/orinplan-fit.1");
        ensure!(page.is_file(), "no manual page");
    }
    drop(server);
    // The archives with one byte more.
    let changed = work.join("changed");
    if changed.exists() {
        fs::remove_dir_all(&changed)?;
    }
    fs::create_dir_all(&changed)?;
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let bytes = match name {
            "SHA256SUMS" => fs::read(&path)?,
            name if name.ends_with(".tar.gz") => [fs::read(&path)?, vec![0]].concat(),
            _ => continue,
        };
        fs::write(changed.join(name), bytes)?;
    }
    let refused = install(&changed.display().to_string(), "refused").output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.contains("nothing was installed"),
        "a changed archive is installed: {said}"
    );
    ensure!(
        !home.join("refused").exists(),
        "a refused archive leaves files"
    );
    fs::remove_dir_all(&changed)?;
    fs::remove_dir_all(&home)?;
    println!("ok    install.sh: from a folder and from a server; a changed archive is refused");
    Ok(())
}

const PORT: u16 = 38_417;

/// Python's server of a folder.
struct Server(Child);

impl Server {
    fn start(folder: &Path, python: &Path) -> anyhow::Result<Server> {
        let mut server = Command::new(python);
        server
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(folder)
            .arg(PORT.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Server(server.spawn()?);
        let mut tries = 0..100;
        let is_there = tries.any(|_| {
            thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", PORT)).is_ok()
        });
        is_there.then_some(server).context("no server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
