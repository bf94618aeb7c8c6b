package tokens

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrSealed says that the store holds a record whose pair cannot be opened: its
// key is not in the key ring, or it was damaged, or moved here from another
// connection or version. A person must repair the store or the key ring; no
// login is required, for the pair may be good.
var ErrSealed = errors.New("tokens: record cannot be opened")

const (
	// keySize is the size of a key of the ring and of all derived from it, in
	// bytes: AES-256.
	keySize = 32
	// keyIDSize is the size of a key id: enough to tell the few keys of a ring
	// apart, too little to say anything about one.
	keyIDSize = 4
	// sealFormat is the first byte of a sealed pair. After it come the key id,
	// the nonce and the ciphertext.
	sealFormat = 1
)

// What the keys derived from a key of the ring are for. A blob sealed for one
// purpose does not open for another.
const (
	forStore = "pleo-sidecar store"
	forSpool = "pleo-sidecar spool"
	forKeyID = "pleo-sidecar key id"
)

// Keyring holds the keys that seal pairs at rest. The first one seals, every one
// opens, so a key is replaced by putting another before it, and dropped once
// all records are written again. A Keyring is immutable, safe for concurrent
// use, and prints as its key ids.
type Keyring struct{ keys []ringKey }

type ringKey struct {
	id    [keyIDSize]byte
	store cipher.AEAD
	spool cipher.AEAD
}

// NewKey returns a random key in the form that NewKeyring reads.
func NewKey() (Secret, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return Secret{}, fmt.Errorf("make key: %w", err)
	}
	return NewSecret(base64.StdEncoding.EncodeToString(key)), nil
}

// NewKeyring returns the ring of keys, each 32 bytes in standard base64. There
// must be one at least, and none twice.
func NewKeyring(keys ...Secret) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("make key ring: no key")
	}
	ring := &Keyring{}
	for i, text := range keys {
		key, err := newRingKey(text)
		if err != nil {
			return nil, fmt.Errorf("read key %d: %w", i+1, err)
		}
		if ring.find(key.id[:]) != nil {
			return nil, fmt.Errorf("read key %d: key id %x is already in the ring", i+1, key.id)
		}
		ring.keys = append(ring.keys, key)
	}
	return ring, nil
}

func newRingKey(text Secret) (ringKey, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text.Reveal())
	if err != nil {
		return ringKey{}, errors.New("not in standard base64")
	}
	if len(key) != keySize {
		return ringKey{}, fmt.Errorf("want %d bytes in base64, have %d", keySize, len(key))
	}
	id, err := hkdf.Key(sha256.New, key, nil, forKeyID, keyIDSize)
	if err != nil {
		return ringKey{}, err
	}
	store, err := newAEAD(key, forStore)
	if err != nil {
		return ringKey{}, err
	}
	spool, err := newAEAD(key, forSpool)
	if err != nil {
		return ringKey{}, err
	}
	return ringKey{id: [keyIDSize]byte(id), store: store, spool: spool}, nil
}

// newAEAD returns AES-256-GCM under a key derived for one purpose. Its nonces are
// random, which is good for 2^32 seals of one key: at one a second, 136 years.
func newAEAD(key []byte, purpose string) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, purpose, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// String returns the ids of the keys, the one that seals first.
func (k *Keyring) String() string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = hex.EncodeToString(key.id[:])
	}
	return strings.Join(ids, " ")
}

func (k *Keyring) find(id []byte) *ringKey {
	for i := range k.keys {
		if string(k.keys[i].id[:]) == string(id) {
			return &k.keys[i]
		}
	}
	return nil
}

// aead returns the cipher of the key for one purpose.
func (k *ringKey) aead(purpose string) cipher.AEAD {
	if purpose == forSpool {
		return k.spool
	}
	return k.store
}

// seal returns the pair of rec, sealed for the place where rec stands.
func (k *Keyring) seal(purpose, connection string, rec Record) ([]byte, error) {
	plain, err := encodeToken(rec.Token)
	if err != nil {
		return nil, err
	}
	first := &k.keys[0]
	blob := append([]byte{sealFormat}, first.id[:]...)
	return first.aead(purpose).Seal(blob, nil, plain, place(connection, rec)), nil
}

// open returns the pair sealed in rec. Its errors are ErrSealed.
func (k *Keyring) open(purpose, connection string, rec Record) (Token, error) {
	const head = 1 + keyIDSize
	blob := rec.Sealed
	if len(blob) < head {
		return Token{}, fmt.Errorf("%w: no sealed pair in it", ErrSealed)
	}
	if blob[0] != sealFormat {
		return Token{}, fmt.Errorf("%w: sealed in format %d, readable is %d", ErrSealed, blob[0], sealFormat)
	}
	key := k.find(blob[1:head])
	if key == nil {
		return Token{}, fmt.Errorf("%w: sealed with a key that is not in the key ring (key id %x)", ErrSealed, blob[1:head])
	}
	plain, err := key.aead(purpose).Open(nil, nil, blob[head:], place(connection, rec))
	if err != nil {
		return Token{}, fmt.Errorf("%w: damaged, or moved from another connection or version", ErrSealed)
	}
	return decodeToken(plain)
}

// place is the associated data of a sealed pair: where it belongs. A blob copied
// to another connection, or an older one put under a later version, is refused.
// Texts carry their length, so that no two places look alike.
func place(connection string, rec Record) []byte {
	var b []byte
	for _, text := range []string{connection, string(rec.Root)} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
		b = append(b, text...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(rec.Epoch))
	b = binary.BigEndian.AppendUint64(b, rec.Generation)
	return binary.BigEndian.AppendUint64(b, rec.Version)
}

// tokenJSON is a pair inside the seal. Tokens are bytes that JSON strings would
// change if they were not UTF-8; times are counted from 1970 in seconds and
// nanoseconds, which holds any of them.
type tokenJSON struct {
	Access  []byte   `json:"access"`
	Refresh []byte   `json:"refresh"`
	Issued  [2]int64 `json:"issued"`
	End     [2]int64 `json:"end"`
	Scope   []byte   `json:"scope"`
}

func encodeToken(t Token) ([]byte, error) {
	return json.Marshal(tokenJSON{
		Access: []byte(t.Access().Reveal()), Refresh: []byte(t.Refresh().Reveal()),
		Issued: instant(t.Issued()), End: instant(t.End()),
		Scope: []byte(t.Scope()),
	})
}

func decodeToken(plain []byte) (Token, error) {
	var t tokenJSON
	if err := json.Unmarshal(plain, &t); err != nil {
		return Token{}, fmt.Errorf("%w: not a pair inside", ErrSealed)
	}
	return NewToken(Pair{
		Access: NewSecret(string(t.Access)), Refresh: NewSecret(string(t.Refresh)),
		Issued: time.Unix(t.Issued[0], t.Issued[1]).UTC(), End: time.Unix(t.End[0], t.End[1]).UTC(),
		Scope: string(t.Scope),
	}), nil
}

func instant(t time.Time) [2]int64 { return [2]int64{t.Unix(), int64(t.Nanosecond())} }

// Seal returns store with every pair sealed on the way in and opened on the way
// out, so that store sees no token. Neither store nor keys may be nil.
//
// When a pair cannot be opened, Load returns ErrSealed together with the record
// without its Token: a login can then be saved over it.
func Seal(store Store, keys *Keyring) Store { return &sealedStore{store, keys} }

type sealedStore struct {
	store Store
	keys  *Keyring
}

func (s *sealedStore) Load(ctx context.Context, connection string) (Record, error) {
	rec, err := s.store.Load(ctx, connection)
	if err != nil {
		return rec, err
	}
	if rec.Living() || len(rec.Sealed) > 0 {
		rec.Token, err = s.keys.open(forStore, connection, rec)
	}
	rec.Sealed = nil
	return rec, err
}

func (s *sealedStore) Save(ctx context.Context, connection string, rec Record) error {
	rec.Sealed = nil
	switch {
	case !rec.Token.IsZero():
		sealed, err := s.keys.seal(forStore, connection, rec)
		if err != nil {
			return fmt.Errorf("seal version %d: %w", rec.Version, err)
		}
		rec.Token, rec.Sealed = Token{}, sealed
	case rec.Living():
		return fmt.Errorf("version %d: state %s without a pair", rec.Version, rec.State)
	}
	return s.store.Save(ctx, connection, rec)
}
