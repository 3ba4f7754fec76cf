//! Which shell lines need no shell, and where a program lies.
//!
//! The reference for a line is `sh -c LINE`, whatever shell `sh` is. Where there is a doubt, the shell runs the line.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// First words that some `sh` (dash, bash, ksh, mksh, BusyBox, zsh) takes for itself, and two programs that print the
/// environment, in which a shell leaves marks of its own.
const NOT_PROGRAMS: &[&str] = &[
    ".",
    ":",
    "[",
    "[[",
    "alias",
    "autoload",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "chdir",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "emulate",
    "enable",
    "enum",
    "env",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "fi",
    "float",
    "for",
    "foreach",
    "function",
    "functions",
    "getconf",
    "getopts",
    "global",
    "hash",
    "help",
    "hist",
    "history",
    "if",
    "in",
    "integer",
    "jobs",
    "kill",
    "let",
    "local",
    "login",
    "logout",
    "mapfile",
    "nameref",
    "newgrp",
    "nocorrect",
    "noglob",
    "nohup",
    "popd",
    "print",
    "printenv",
    "printf",
    "pushd",
    "pwd",
    "r",
    "read",
    "readarray",
    "readonly",
    "redirect",
    "rehash",
    "rename",
    "repeat",
    "return",
    "select",
    "set",
    "setopt",
    "shift",
    "shopt",
    "source",
    "stop",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "vmstate",
    "wait",
    "whence",
    "where",
    "which",
    "while",
    "zmodload",
];

/// The words of a line that a shell would pass on as they stand, or none where it takes a shell to tell.
pub(super) fn plain_words(line: &[u8]) -> Option<Vec<&[u8]>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" \t_-./:,@%+=".contains(byte);
    if !line.iter().all(plain) {
        return None;
    }
    let words: Vec<&[u8]> = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty()).collect();
    let first = *words.first()?;
    let starts_plainly = first[0].is_ascii_alphanumeric() || b"_/.".contains(&first[0]);
    let is_program = !first.contains(&b'=') && !NOT_PROGRAMS.iter().any(|name| name.as_bytes() == first);
    // zsh expands a word that starts with '='.
    let no_expansion = words.iter().all(|word| word[0] != b'=');
    (starts_plainly && is_program && no_expansion && line[0] != b'-').then_some(words)
}

/// Whether an environment lets the shell run plain words as something else than the program of that name.
pub(super) fn shell_is_predictable<'a>(mut environment: impl Iterator<Item = &'a [u8]>) -> bool {
    // bash takes exported functions and options from the environment, and zsh and ksh a start-up file.
    !environment.any(|name| {
        name.starts_with(b"BASH_FUNC_") || [&b"SHELLOPTS"[..], b"BASHOPTS", b"BASH_ENV", b"ENV"].contains(&name)
    })
}

/// Finds programs along a PATH, and remembers where they were.
#[derive(Debug)]
pub(super) struct Finder {
    folders: Vec<Vec<u8>>,
    /// A folder named relative to the working directory: nothing may be remembered.
    relative: bool,
    found: HashMap<Vec<u8>, CString>,
}

/// Programs remembered; past it the memory starts afresh.
const MAX_REMEMBERED: usize = 1024;

impl Finder {
    /// Looks along this PATH; none is the system's default.
    pub(super) fn new(path: Option<&[u8]>) -> Self {
        let path = path.unwrap_or(b"/usr/bin:/bin");
        let folders: Vec<Vec<u8>> = path.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        let relative = folders.iter().any(|folder| folder.first() != Some(&b'/'));
        Self { folders, relative, found: HashMap::new() }
    }

    /// Whether the PATH means the same in every working directory.
    pub(super) fn is_absolute(&self) -> bool {
        !self.relative
    }

    /// The file that `name` stands for. A name with a slash stands for itself.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<CString> {
        if name.contains(&b'/') {
            return CString::new(name).ok();
        }
        if let Some(file) = self.found.get(name) {
            return Some(file.clone());
        }
        let file = self.folders.iter().find_map(|folder| {
            let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
            let file = CString::new([folder, b"/", name].concat()).ok()?;
            is_program(&file).then_some(file)
        })?;
        if !self.relative {
            if self.found.len() >= MAX_REMEMBERED {
                self.found.clear();
            }
            self.found.insert(name.to_vec(), file.clone());
        }
        Some(file)
    }

    /// Forgets where `name` was; returns whether it was remembered.
    pub(super) fn forget(&mut self, name: &[u8]) -> bool {
        self.found.remove(name).is_some()
    }
}

/// Whether it is a file that may be executed.
fn is_program(file: &CStr) -> bool {
    // SAFETY: the path is NUL-terminated; stat is plain data for which zero is valid, and is read only after success.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::stat(file.as_ptr(), &mut stat) == 0
            && stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && libc::faccessat(libc::AT_FDCWD, file.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn plain_words_are_taken_as_they_stand() {
        let words = plain_words(b"  ./sim --seed=3\t-o out/a_1.txt 50%  a@b:c+d,e ").unwrap();
        let expected: [&[u8]; 6] = [b"./sim", b"--seed=3", b"-o", b"out/a_1.txt", b"50%", b"a@b:c+d,e"];
        assert_eq!(words, expected);
    }

    #[test]
    fn anything_that_a_shell_may_read_otherwise_goes_to_the_shell() {
        for line in [
            "",
            " ",
            "echo a",
            "true",
            "[ a ]",
            "A=1 prog",
            "prog 'a'",
            "prog $X",
            "prog ~",
            "prog a*",
            "prog a>b",
            "prog;b",
            "prog&",
            "prog|b",
            "prog \\a",
            "prog #a",
            "prog {a,b}",
            "prog `a`",
            "prog\nb",
            "time prog",
            "! prog",
            "-c prog",
            "%1",
            "+x",
            "if x",
            "prog \u{e9}",
            "env",
            "prog =ls",
            "a[1] b",
            "exec prog",
            "prog a^b",
        ] {
            assert_eq!(plain_words(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_read() {
        assert!(NOT_PROGRAMS.is_sorted());
    }

    #[test]
    fn a_program_is_found_past_folders_and_files_that_are_none() {
        let root = tempfile::tempdir().unwrap();
        let make = |folder: &str, mode: u32| {
            let file = root.path().join(folder).join("prog");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "x").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        std::fs::create_dir_all(root.path().join("a/prog")).unwrap();
        make("b", 0o644);
        let right = make("c", 0o755);
        let folders = ["a", "b", "c"].map(|folder| root.path().join(folder).to_str().unwrap().to_owned());
        let mut finder = Finder::new(Some(folders.join(":").as_bytes()));
        let found = finder.find(b"prog").unwrap();
        assert_eq!(found.to_str().unwrap(), right.to_str().unwrap());
        assert_eq!(finder.find(b"no-such-program"), None);

        std::fs::remove_file(&right).unwrap();
        assert_eq!(finder.find(b"prog"), Some(found), "remembered");
        assert!(finder.forget(b"prog"));
        assert_eq!(finder.find(b"prog"), None);
    }

    #[test]
    fn a_path_with_a_relative_folder_is_never_remembered() {
        assert!(!Finder::new(Some(b"/bin:")).is_absolute());
        assert!(!Finder::new(Some(b"bin")).is_absolute());
        assert!(Finder::new(None).is_absolute());
    }
}
