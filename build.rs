//! Links the settings of the allocator into the program.

fn main() {
    println!("cargo::rerun-if-changed=src/malloc_conf.c");
    // An object rather than a library: the linker takes a library's symbol only if nothing else defines it, and jemalloc has a
    // weak one.
    for object in cc::Build::new().file("src/malloc_conf.c").compile_intermediates() {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
