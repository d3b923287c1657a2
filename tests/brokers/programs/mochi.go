// mochi-mqtt with the users of the battery and bbolt. Arguments: folder, port.
package main

import (
	"bytes"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.etcd.io/bbolt"
)

// users is the hook that decides who may connect, publish and subscribe.
type users struct{ mqtt.HookBase }

func (h *users) ID() string { return "users" }

func (h *users) Provides(hook byte) bool {
	return bytes.Contains([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck}, []byte{hook})
}

func (h *users) OnConnectAuthenticate(client *mqtt.Client, packet packets.Packet) bool {
	return string(packet.Connect.Password) == "right"
}

func (h *users) OnACLCheck(client *mqtt.Client, topic string, write bool) bool {
	user := string(client.Properties.Username)
	refused := (user == "noread" && !write) || (user == "nowrite" && write)
	return !(refused && strings.HasPrefix(topic, "sensors/"))
}

func main() {
	broker := mqtt.New(nil)
	must(broker.AddHook(new(users), nil))
	// Without a sync for each message, which takes a second for a few dozen of them.
	store := &bolt.Options{Path: os.Args[1] + "/bolt.db", Options: &bbolt.Options{NoSync: true}}
	must(broker.AddHook(new(bolt.Hook), store))
	must(broker.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:" + os.Args[2]})))
	must(broker.Serve())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	must(broker.Close())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
