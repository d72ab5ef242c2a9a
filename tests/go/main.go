// Answers questions about notes, trees, proof files and receipts with other people's code: Go's golang.org/x/mod/sumdb,
// torchwood (cosignatures) and go-cose. One JSON object a line in, one out; see tests/ledger/test_against_go.py.
package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Question holds the arguments of every question; []byte is base64 in JSON.
type Question struct {
	Op      string
	Note    string
	Text    string
	Name    string
	Keys    []string
	Leaves  [][]byte
	Entry   []byte
	Index   int64
	Old     int64
	OldRoot []byte
	Size    int64
	Root    []byte
	Proof   [][]byte
	Receipt []byte
	Key     []byte
}

// Answer is what came of it: Error is empty if it holds.
type Answer struct {
	Error   string   `json:"error"`
	Text    string   `json:"text"`
	Key     string   `json:"key"`
	Raw     []byte   `json:"raw"`
	Root    []byte   `json:"root"`
	Proof   [][]byte `json:"proof"`
	Receipt []byte   `json:"receipt"`
}

type hashes map[int64]tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, h[i])
	}
	return out, nil
}

func tree(leaves [][]byte) (hashes, error) {
	stored := hashes{}
	for n, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(n), leaf, stored)
		if err != nil {
			return nil, err
		}
		at := tlog.StoredHashIndex(0, int64(n))
		for i, h := range more {
			stored[at+int64(i)] = h
		}
	}
	return stored, nil
}

func hash(b []byte) (h tlog.Hash) {
	copy(h[:], b)
	return h
}

func list(steps [][]byte) (out []tlog.Hash) {
	for _, step := range steps {
		out = append(out, hash(step))
	}
	return out
}

func raw[T ~[]tlog.Hash](steps T) (out [][]byte) {
	for _, step := range steps {
		out = append(out, append([]byte{}, step[:]...))
	}
	return out
}

func verifiers(keys []string) (note.Verifiers, error) {
	var out []note.Verifier
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		if err != nil {
			w, werr := torchwood.NewCosignatureVerifier(key)
			if werr != nil {
				return nil, errors.Join(err, werr)
			}
			out = append(out, w)
			continue
		}
		out = append(out, v)
	}
	return note.VerifierList(out...), nil
}

// open takes a note whose every key has to have signed it.
func open(text string, keys []string) (*note.Note, error) {
	known, err := verifiers(keys)
	if err != nil {
		return nil, err
	}
	n, err := note.Open([]byte(text), known)
	if err != nil {
		return nil, err
	}
	if len(n.Sigs) != len(keys) {
		return nil, fmt.Errorf("%d of %d keys signed", len(n.Sigs), len(keys))
	}
	return n, nil
}

func checkProofFile(q Question) error {
	head, rest, ok := strings.Cut(q.Text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a proof file")
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[0], "extra "))
		if err != nil || !bytes.Equal(extra, q.Entry) {
			return errors.New("the extra data is not the entry")
		}
		lines = lines[1:]
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, h)
	}
	n, err := open(rest, q.Keys)
	if err != nil {
		return err
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, c.N, c.Hash, index, tlog.RecordHash(q.Entry))
}

// checkReceipt checks an RFC 9942 receipt of inclusion (Entry) or of consistency (Old, OldRoot) over Root.
func checkReceipt(q Question) error {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(q.Receipt); err != nil {
		return err
	}
	if alg, err := m.Headers.Protected.Algorithm(); err != nil || alg != cose.AlgorithmEdDSA {
		return fmt.Errorf("algorithm %v, %v", alg, err)
	}
	if vds := m.Headers.Protected[int64(395)]; vds != int64(1) {
		return fmt.Errorf("verifiable data structure %v (%T)", vds, vds)
	}
	kind := int64(-1)
	if q.Op == "check-consistency-receipt" {
		kind = -2
	}
	proofs := m.Headers.Unprotected[int64(396)].(map[any]any)[kind].([]any)
	var proof struct {
		_    struct{} `cbor:",toarray"`
		A, B int64
		Path [][]byte
	}
	if err := cbor.Unmarshal(proofs[0].([]byte), &proof); err != nil {
		return err
	}
	var err error
	if kind == -1 {
		err = tlog.CheckRecord(list(proof.Path), proof.A, hash(q.Root), proof.B, tlog.RecordHash(q.Entry))
	} else {
		err = tlog.CheckTree(list(proof.Path), proof.B, hash(q.Root), q.Old, hash(q.OldRoot))
	}
	if err != nil {
		return err
	}
	m.Payload = q.Root
	v, err := cose.NewVerifier(cose.AlgorithmEdDSA, ed25519.PublicKey(q.Key))
	if err != nil {
		return err
	}
	return m.Verify(nil, v)
}

// makeReceipt signs a receipt of inclusion with a key of its own, in the profile of ledger/receipt.py.
func makeReceipt(q Question, kid func([]byte) []byte) (Answer, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Answer{}, err
	}
	stored, err := tree(q.Leaves)
	if err != nil {
		return Answer{}, err
	}
	n := int64(len(q.Leaves))
	root, err := tlog.TreeHash(n, stored)
	if err != nil {
		return Answer{}, err
	}
	path, err := tlog.ProveRecord(n, q.Index, stored)
	if err != nil {
		return Answer{}, err
	}
	proof, err := cbor.Marshal([]any{n, q.Index, raw(path)})
	if err != nil {
		return Answer{}, err
	}
	signer, err := cose.NewSigner(cose.AlgorithmEdDSA, private)
	if err != nil {
		return Answer{}, err
	}
	m := cose.NewSign1Message()
	m.Headers.Protected = cose.ProtectedHeader{
		int64(1):      cose.AlgorithmEdDSA,
		int64(4):      kid(public),
		int64(15):     map[any]any{int64(1): q.Name},
		int64(395):    int64(1),
		int64(-65537): n,
	}
	m.Headers.Unprotected = cose.UnprotectedHeader{int64(396): map[any]any{int64(-1): []any{proof}}}
	m.Payload = root[:]
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		return Answer{}, err
	}
	m.Payload = nil
	data, err := m.MarshalCBOR()
	return Answer{Receipt: data, Raw: public}, err
}

func sum256(b []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(b)
	return h.Sum(nil)
}

func answer(q Question) (Answer, error) {
	switch q.Op {
	case "open":
		n, err := open(q.Note, q.Keys)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Text: n.Text}, nil
	case "sign":
		skey, vkey, err := note.GenerateKey(rand.Reader, q.Name)
		if err != nil {
			return Answer{}, err
		}
		signer, err := note.NewSigner(skey)
		if err != nil {
			return Answer{}, err
		}
		signed, err := note.Sign(&note.Note{Text: q.Text}, signer)
		return Answer{Text: string(signed), Key: vkey}, err
	case "cosign":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return Answer{}, err
		}
		signer, err := torchwood.NewCosignatureSigner(q.Name, private)
		if err != nil {
			return Answer{}, err
		}
		n, err := open(q.Note, q.Keys)
		if err != nil {
			return Answer{}, err
		}
		signed, err := note.Sign(n, signer)
		return Answer{Text: string(signed), Key: signer.Verifier().String()}, err
	case "tree":
		stored, err := tree(q.Leaves)
		if err != nil {
			return Answer{}, err
		}
		root, err := tlog.TreeHash(q.Size, stored)
		if err != nil {
			return Answer{}, err
		}
		if q.Old > 0 {
			p, err := tlog.ProveTree(q.Size, q.Old, stored)
			return Answer{Root: root[:], Proof: raw(p)}, err
		}
		p, err := tlog.ProveRecord(q.Size, q.Index, stored)
		return Answer{Root: root[:], Proof: raw(p)}, err
	case "check-record":
		return Answer{}, tlog.CheckRecord(list(q.Proof), q.Size, hash(q.Root), q.Index, tlog.RecordHash(q.Entry))
	case "check-tree":
		return Answer{}, tlog.CheckTree(list(q.Proof), q.Size, hash(q.Root), q.Old, hash(q.OldRoot))
	case "check-proof-file":
		return Answer{}, checkProofFile(q)
	case "check-inclusion-receipt", "check-consistency-receipt":
		return Answer{}, checkReceipt(q)
	case "make-receipt":
		return makeReceipt(q, sum256)
	}
	return Answer{}, fmt.Errorf("unknown question %q", q.Op)
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q Question
		var a Answer
		err := json.Unmarshal(in.Bytes(), &q)
		if err == nil {
			a, err = answer(q)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			panic(err)
		}
	}
}
