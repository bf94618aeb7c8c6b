// Package config is what the operator may say, checked completely before
// anything starts.
//
// A setting is a key of config.yaml, such as store.redis.addrs, and at the same
// time an environment variable, PLEO_SIDECAR_STORE_REDIS_ADDRS. Defaults give
// way to the file, the file to the environment. The result is a plain [Config]:
// nothing reads a setting after the start, and nothing watches the file.
//
// The exported fields of [Config] are the one list of keys. A field's tag is the
// name of its key, its type is its unit and whether it is a secret, its value in
// [Default] is its default. Variables, the _FILE variants of secrets, the check
// for unknown keys and the test of config.example.yaml all follow from that
// list, so a key is added in one place.
//
// The command line says the rest: which command runs, and on what. See [Program].
//
// What it guarantees:
//
//   - Every mistake is reported, not only the first one, each with its key, and
//     with the variable where it came from one. See [Error].
//   - Nothing is guessed. A number without a unit, a number where text is
//     wanted, an unknown key, an unknown PLEO_SIDECAR_ variable, a second YAML
//     document: each is refused.
//   - Limits that depend on each other are checked together, so that no
//     combination can present a refresh token after its lease.
//   - No message contains a value from the file or the environment, which may be
//     a secret in the wrong place. Exceptions are the path of a file that cannot
//     be read, and unknown keys as long as they look like keys.
//   - Secrets do not print. See [Secret].
//
// An empty variable and an empty YAML value (`lead:`) count as not given: they
// leave the default. That is what a template with an unset value produces.
//
// What it does not do: it connects to nothing and creates nothing. It reads the
// configuration file and, once, the files that hold secrets and certificate
// authorities.
package config
