// Signs and verifies with another implementation of ML-DSA-44 (FIPS 204): filippo.io/mldsa over Go's own module.
// A question a line, in hex: "sign SEED MESSAGE" gives public key and signature, "verify KEY MESSAGE SIGNATURE" ok or bad.
package main

import (
	"bufio"
	"crypto"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"filippo.io/mldsa"
)

func answer(words []string) string {
	var parts [][]byte
	for _, word := range words[1:] {
		part, err := hex.DecodeString(word)
		if err != nil {
			return err.Error()
		}
		parts = append(parts, part)
	}
	if words[0] == "sign" {
		key, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), parts[0])
		if err != nil {
			return err.Error()
		}
		signature, err := key.Sign(nil, parts[1], crypto.Hash(0))
		if err != nil {
			return err.Error()
		}
		return hex.EncodeToString(key.PublicKey().Bytes()) + " " + hex.EncodeToString(signature)
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), parts[0])
	if err != nil || mldsa.Verify(key, parts[1], parts[2], nil) != nil {
		return "bad"
	}
	return "ok"
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		fmt.Println(answer(strings.Split(in.Text(), " ")))
	}
}
