//! bench
mod cases; mod full; mod payload; mod peers; mod valgrind;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    match a.get(1).map(String::as_str) {
        Some("one") => {
            let case = cases::CASES.iter().find(|c| c.group == a[2] && c.name == a[3]).expect("case");
            let d = (case.run)(a[4].parse().unwrap());
            eprintln!("{d:?}");
        }
        _ => {
            println!("{:?}", cases::future_sizes());
            let only = a.get(1);
            let mut base = (0.0, 0.0);
            for (i, c) in cases::CASES.iter().enumerate() {
                if only.is_some_and(|o| !c.group.starts_with(o.as_str())) { continue }
                let n = valgrind::per_time(c, valgrind::Tool::Callgrind).unwrap();
                let m = valgrind::per_time(c, valgrind::Tool::Dhat).unwrap();
                if i == 0 || cases::CASES[i-1].group != c.group { base = (n, m); }
                println!("{:20} {:35} {:10.1} {:10.1} allocs {:6.2} {:6.2}", c.group, c.name, n, n - base.0, m, m - base.1);
            }
        }
    }
}
