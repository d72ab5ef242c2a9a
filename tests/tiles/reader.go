// Reads a published log with Go's own tile reader: reader <folder or URL> <verifier key> <index>...
// For each index it proves the record's inclusion, by tiles, and prints index, leaf hash and entry in hex.
package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(place, path string) ([]byte, error) {
	if !strings.HasPrefix(place, "http://") {
		return os.ReadFile(place + "/" + path)
	}
	answer, err := http.Get(place + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// path is the tile's under C2SP tlog-tiles: that of Go's checksum database, without its height.
func path(t tlog.Tile) string {
	return strings.Replace(t.Path(), "tile/8/", "tile/", 1)
}

type reader struct{ place string }

func (r reader) Height() int                          { return height }
func (r reader) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := get(r.place, path(t))
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

func main() {
	place, key := os.Args[1], os.Args[2]
	raw, err := get(place, "checkpoint")
	fail(err)
	verifier, err := note.NewVerifier(key)
	fail(err)
	opened, err := note.Open(raw, note.VerifierList(verifier))
	fail(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	fail(err)
	digest, err := base64.StdEncoding.DecodeString(lines[2])
	fail(err)
	var root tlog.Hash
	copy(root[:], digest)
	tree := tlog.Tree{N: size, Hash: root}
	hashes := tlog.TileHashReader(tree, reader{place})
	for _, word := range os.Args[3:] {
		index, err := strconv.ParseInt(word, 10, 64)
		fail(err)
		leaf := tlog.Tile{H: height, L: 0, N: index >> height, W: 1 << height}
		if over := size - leaf.N<<height; over < 1<<height {
			leaf.W = int(over)
		}
		bundle, err := get(place, strings.Replace(path(leaf), "tile/0/", "tile/entries/", 1))
		fail(err)
		var record []byte
		for i := int64(0); i <= index&(1<<height-1); i++ {
			n := int(bundle[0])<<8 | int(bundle[1])
			record, bundle = bundle[2:2+n], bundle[2+n:]
		}
		proof, err := tlog.ProveRecord(size, index, hashes)
		fail(err)
		hash := tlog.RecordHash(record)
		fail(tlog.CheckRecord(proof, size, root, index, hash))
		old := index + 1
		treeProof, err := tlog.ProveTree(size, old, hashes)
		fail(err)
		oldRoot, err := tlog.TreeHash(old, hashes)
		fail(err)
		fail(tlog.CheckTree(treeProof, size, root, old, oldRoot))
		fmt.Printf("%d %x %x\n", index, hash[:], record)
	}
}
