//! temp
fn main() -> std::process::ExitCode {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let opt = |n: &str| a.iter().position(|x| x == n).map(|i| a[i + 1].clone());
    let dir = opt("--dir").map(std::path::PathBuf::from);
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let r = match (a[0].as_str(), a.get(1).map(String::as_str)) {
        ("demo", _) => {
            node::demo::run(&node::demo::Options { dir, tills: 3, transactions: 60, serve: false })
        }
        ("hub", Some("run")) => node::hub::run(
            &dir.unwrap(),
            &opt("--listen").unwrap(),
            &opt("--http").unwrap(),
            &Default::default(),
        ),
        ("terminal", Some("run")) => node::terminal::run(&dir.unwrap(), &opt("--http").unwrap()),
        _ => panic!(),
    };
    if let Err(e) = r {
        eprintln!("{e}");
        return std::process::ExitCode::from(e.code);
    }
    std::process::ExitCode::SUCCESS
}
