package config

import (
	"crypto/x509"
	"time"
)

// Config is a complete, checked configuration. It is to be read only: copies
// share the lists.
//
// Durations and sizes carry their unit in the type. Unless a field says what
// zero means, zero is refused.
type Config struct {
	// Environment is the Pleo environment, production or staging. It presets
	// the URLs of Pleo that are not given.
	Environment string `key:"environment"`

	// Listen is the host:port on which callers are served. Whoever reaches it
	// can use every connection, so an address that is not loopback demands
	// Callers.Token. Port 0 lets the system choose one.
	Listen string `key:"listen"`

	Admin       Admin       `key:"admin"`
	Upstream    Upstream    `key:"upstream"`
	OAuth       OAuth       `key:"oauth"`
	Connections Connections `key:"connections"`
	Refresh     Refresh     `key:"refresh"`
	Store       Store       `key:"store"`
	Callers     Callers     `key:"callers"`
	Log         Log         `key:"log"`
	Shutdown    Shutdown    `key:"shutdown"`
}

// Admin is the listener for probes and metrics.
type Admin struct {
	// Listen is its host:port. All interfaces by default, because kubelet and
	// Prometheus come from outside the pod; it shows nothing secret and
	// nothing on it acts. Port 0 lets the system choose one.
	Listen string `key:"listen"`
}

// Upstream is the API behind us.
type Upstream struct {
	// URL is scheme and host of the API. Access tokens are sent there and
	// nowhere else. Preset by Environment; in a loaded Config it has no
	// trailing slash.
	URL string `key:"url"`

	// ResponseHeaderTimeout bounds the wait for the response header, counted
	// from the end of the request. Zero means no bound. Exports that are
	// computed while the caller waits need most of a minute.
	ResponseHeaderTimeout time.Duration `key:"response_header_timeout"`

	// ReplayLimit is the longest request body kept for the one repetition
	// after a 401. Longer ones are streamed, and their 401 goes to the caller.
	// Zero keeps no body. Uploads of up to 1 MiB were never seen to be cut by
	// an early 401, so holding more gains little.
	ReplayLimit Size `key:"replay_limit"`

	// ReplayBudget bounds the memory of all bodies kept at one time. What does
	// not fit is streamed. Zero keeps no body.
	ReplayBudget Size `key:"replay_budget"`

	// CAFile names a PEM file of the certificate authorities trusted for URL.
	// Empty means those of the system. It is read at the start, see [Upstream.Roots].
	CAFile string `key:"ca_file"`

	roots *x509.CertPool
}

// OAuth is the authorization server, and what we are to it.
type OAuth struct {
	// AuthorizationURL is where a person grants access. Preset by Environment.
	AuthorizationURL string `key:"authorization_url"`

	// TokenURL is the token endpoint. The client secret and refresh tokens go
	// there. Preset by Environment.
	TokenURL string `key:"token_url"`

	// IntrospectionURL answers whether a token is alive, which is how a lost
	// answer is resolved. Preset by Environment. In a loaded Config empty
	// means switched off, which the operator writes as `none`.
	IntrospectionURL string `key:"introspection_url"`

	// ClientID names us at the authorization server.
	ClientID string `key:"client_id"`

	// ClientSecret proves it. When ClientSecretFile is given, it is what the
	// file held at the start.
	ClientSecret Secret `key:"client_secret"`

	// ClientSecretFile names a file that holds ClientSecret. It is read at the
	// start.
	ClientSecretFile string `key:"client_secret_file"`

	// ClientAuth is how the secret is shown to the token endpoint: basic (an
	// Authorization header, what Pleo's pages demand) or post (fields of the
	// form). It is fixed here and never probed, because a probe would present
	// the same refresh token twice.
	ClientAuth string `key:"client_auth"`

	// RedirectURL is where the authorization server sends the person back,
	// exactly as registered with Pleo. Empty means that nothing is registered:
	// connections are then imported or seeded.
	RedirectURL string `key:"redirect_url"`

	// Scopes are asked for at login. Empty asks for none by name.
	Scopes []string `key:"scopes"`

	// CAFile names a PEM file of the certificate authorities trusted for the
	// OAuth URLs. Empty means those of the system. It is read at the start, see
	// [OAuth.Roots].
	CAFile string `key:"ca_file"`

	roots *x509.CertPool
}

// Connections is about the connections of this sidecar.
type Connections struct {
	// Default is the connection of calls whose path names none.
	Default string `key:"default"`

	// SeedRefreshToken is the first refresh token of the default connection.
	// It is used only while the store has never held that connection. Empty
	// means that somebody logs in or imports.
	SeedRefreshToken Secret `key:"seed_refresh_token"`

	// SeedRefreshTokenFile names a file that holds SeedRefreshToken.
	SeedRefreshTokenFile string `key:"seed_refresh_token_file"`
}

// Refresh is when and how a token is refreshed.
type Refresh struct {
	// Lead is how long before the end of an access token it is refreshed. At
	// run time it is cut to a third of the token's life.
	Lead time.Duration `key:"lead"`

	// Timeout bounds one refresh request. The lease of the lock follows from
	// it. A refresh is not tied to the caller that asked for it.
	Timeout time.Duration `key:"timeout"`

	// MaxWait bounds how long a call waits for a token before it is answered
	// token-unavailable.
	MaxWait time.Duration `key:"max_wait"`

	// Attempts is how often a refresh that was never sent is tried, with
	// growing pauses. At least 1.
	Attempts int `key:"attempts"`

	// KeepAlive is how often an idle connection is refreshed, so that its
	// refresh token does not age out. Pleo names at least 60 days but
	// promises nothing, so a day is far on the safe side and costs little.
	KeepAlive time.Duration `key:"keep_alive"`

	// SendWindow is how long after the claim was begun the request may still
	// be written. Past it nothing is sent.
	SendWindow time.Duration `key:"send_window"`

	// NetworkLife is the longest time a written request may be on its way. It
	// must exceed TCP_USER_TIMEOUT and the longest time-out of every egress
	// proxy, mesh or gateway that buffers requests.
	NetworkLife time.Duration `key:"network_life"`

	// OnLostAnswer is what to do when a refresh was sent, no answer was saved,
	// and introspection cannot tell what became of it: retry (present the
	// token once more, which can end the grant), stop (ask for a login), or
	// never (ask for a login even if introspection says the token is alive).
	OnLostAnswer string `key:"on_lost_answer"`
}

// Quiet is how long a record in doubt must rest before it is resolved: a
// request that was sent has then been delivered or lost.
func (r Refresh) Quiet() time.Duration { return r.SendWindow + r.NetworkLife }

// Store is where connections live.
type Store struct {
	// Kind is file (one machine), redis (a fleet), or memory (trying it out:
	// every grant is lost at exit).
	Kind string `key:"kind"`

	File       File       `key:"file"`
	Redis      Redis      `key:"redis"`
	Encryption Encryption `key:"encryption"`

	// SpoolDir is a folder that holds a pair, sealed, while the store is away,
	// so that it outlives the process. Empty means no spool: such a pair is
	// then in memory only.
	SpoolDir string `key:"spool_dir"`
}

// File is the store of kind file.
type File struct {
	// Dir is the folder of the records, one file a connection.
	Dir string `key:"dir"`
}

// Redis is the store of kind redis.
type Redis struct {
	// Mode is single, sentinel or cluster. It is never guessed from Addrs.
	Mode string `key:"mode"`

	// Addrs are host:port of the server, of the sentinels, or of some nodes
	// of the cluster.
	Addrs []string `key:"addrs"`

	// MasterName is the name of the master at the sentinels. Only for mode
	// sentinel.
	MasterName string `key:"master_name"`

	// Username is the ACL user. Empty means the default user.
	Username string `key:"username"`

	// Password of that user. Empty means none.
	Password Secret `key:"password"`

	// PasswordFile names a file that holds Password. It is read for each
	// network connection: a rotated password needs no restart.
	PasswordFile string `key:"password_file"`

	// DB is the number of the database. A cluster has only 0.
	DB int `key:"db"`

	// KeyPrefix begins every key and channel. Fleets that share a Redis need
	// different ones.
	KeyPrefix string `key:"key_prefix"`

	TLS TLS `key:"tls"`

	// WaitReplicas is how many replicas must have a claim before its request
	// is sent. Zero waits for none, which is right for a single server: with
	// replicas a failover may then lose a claim.
	WaitReplicas int `key:"wait_replicas"`
}

// TLS is how Redis is reached.
type TLS struct {
	// Enabled switches TLS on. The files below demand it.
	Enabled bool `key:"enabled"`

	// CAFile names a PEM file of the certificate authorities trusted for
	// Redis. Empty means those of the system.
	CAFile string `key:"ca_file"`

	// CertFile and KeyFile name our own certificate and its key, in PEM, for
	// a Redis that asks for one. Both or none.
	CertFile string `key:"cert_file"`
	KeyFile  string `key:"key_file"`
}

// Encryption seals the tokens at rest.
type Encryption struct {
	// Keys are standard Base64 of 32 random bytes each. The first one seals,
	// any one opens: a key is replaced by putting the next one in front.
	// Required for the kinds file and redis. When KeysFile is given, they are
	// what the file held at the start.
	Keys []Secret `key:"keys"`

	// KeysFile names a file that holds Keys, one a line.
	KeysFile string `key:"keys_file"`
}

// Callers is who may call.
type Callers struct {
	// Token is what callers show as `Authorization: Bearer <token>`. It never
	// goes on to Pleo. Empty asks for none, which is refused when Listen is
	// not loopback.
	Token Secret `key:"token"`

	// TokenFile names a file that holds Token.
	TokenFile string `key:"token_file"`

	// Hosts are the names, host or host:port, under which callers may reach
	// us besides the loopback ones. Any other Host is refused, against DNS
	// rebinding.
	Hosts []string `key:"hosts"`
}

// Log is about the log, which goes to standard error.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `key:"level"`

	// Format is json or text.
	Format string `key:"format"`
}

// Shutdown is what happens at SIGTERM.
type Shutdown struct {
	// Linger goes on accepting calls until none came for so long. It is for
	// an app that ends after us (a plain second container). Zero stops
	// accepting at once, which is right for a native sidecar.
	Linger time.Duration `key:"linger"`

	// Timeout bounds the whole shutdown, Linger included. It leaves time to
	// finish and save a refresh: a pair that is not saved is lost, and only a
	// login repairs that.
	Timeout time.Duration `key:"timeout"`
}
