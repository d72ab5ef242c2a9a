#!/usr/bin/env bash
# A Kafka broker for development and tests: one node, loopback only, from the plain jars of Apache Kafka.
#
#   kafka.sh up     [--dir DIR] [--port PORT] [--controller-port PORT] [--extra FILE]
#   kafka.sh down   [--dir DIR]
#   kafka.sh status [--dir DIR]
#
# DIR (default: .kafka in the repository) holds data, configuration, log and pid file; `up` again keeps the data.
# PORT is 9092 and the controller's port one more, unless given. FILE is appended to the broker's configuration.
# The jars are fetched once by Maven into .kafka/lib of the repository (or $KAFKA_LIB). For production, run a cluster.
set -euo pipefail

KAFKA_VERSION=4.3.1
SCALA_VERSION=2.13
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'kafka.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

need_java() {
  command -v java >/dev/null || die "java is not on the PATH: install a Java runtime, 17 or later"
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${version:-0}" -ge 17 ] || die "Kafka $KAFKA_VERSION needs Java 17 or later, java on the PATH is ${version:-unknown}"
}

# Fetches into a directory of its own and renames: an interrupted or a second fetch leaves no half set of jars.
fetch_jars() {
  [ -d "$jars" ] && return
  command -v mvn >/dev/null || die "mvn is not on the PATH: install Maven (once, to fetch Kafka's jars into $jars)"
  say "fetching Kafka $KAFKA_VERSION (about 45 MB) into $jars"
  local work=$jars.$$
  mkdir -p "$work"
  cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_$SCALA_VERSION</artifactId><version>$KAFKA_VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
POM
  if ! mvn --batch-mode --quiet --strict-checksums --file "$work/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$work/lib" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    rm -rf "$work"
    die "Maven could not fetch Kafka's jars: see above"
  fi
  [ -d "$jars" ] || mv "$work/lib" "$jars"
  rm -rf "$work"
}

# The process this script started for this directory, if it still runs: the pid alone might be another's by now.
running_pid() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) || return 1
  [[ "$(ps -ww -o args= -p "$pid" 2>/dev/null)" == *"-Dkafka.sh.dir=$dir "* ]] || return 1
  echo "$pid"
}

write_configuration() {
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller_port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
# One node: every internal topic has one replica.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A group forms at once; production waits three seconds for more members.
group.initial.rebalance.delay.ms=0
PROPERTIES
  [ -z "$extra" ] || cat "$extra" >>"$dir/server.properties"
}

up() {
  local pid
  if pid=$(running_pid); then
    say "already up (pid $pid)"
    cat "$dir/bootstrap"
    return
  fi
  need_java
  fetch_jars
  mkdir -p "$dir"
  write_configuration
  if [ ! -e "$dir/data/meta.properties" ]; then
    local id
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | tr -d '=')
    java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars/*" kafka.tools.StorageTool format \
      --standalone -t "$id" -c "$dir/server.properties" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "cannot format $dir/data"; }
  fi
  nohup java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dkafka.sh.dir=$dir" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
    -cp "$jars/*" kafka.Kafka "$dir/server.properties" >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  echo "127.0.0.1:$port" >"$dir/bootstrap"
  for _ in $(seq 300); do
    sleep 0.2
    if grep -q 'Kafka Server started' "$dir/log"; then
      cat "$dir/bootstrap"
      return
    fi
    running_pid >/dev/null || { tail -n 20 "$dir/log" >&2; rm -f "$dir/pid"; die "the broker ended while starting: see above and $dir/log"; }
  done
  down
  die "the broker was not up after 60 s: see $dir/log"
}

down() {
  local pid
  if ! pid=$(running_pid); then
    say "not running"
    rm -f "$dir/pid"
    return
  fi
  kill "$pid"
  for _ in $(seq 150); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.2
  done
  if running_pid >/dev/null; then
    say "pid $pid did not end in 30 s: killing it"
    kill -KILL "$pid"
  fi
  rm -f "$dir/pid"
}

status() {
  local pid
  if pid=$(running_pid); then
    echo "up at $(cat "$dir/bootstrap") (pid $pid, $dir)"
  else
    echo "down ($dir)"
    return 1
  fi
}

[ $# -ge 1 ] || usage
action=$1
shift
dir=$repository/.kafka port=9092 controller_port='' extra=''
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --dir) dir=$2 ;;
    --port) port=$2 ;;
    --controller-port) controller_port=$2 ;;
    --extra) extra=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ $port =~ ^[0-9]+$ && $controller_port =~ ^[0-9]*$ ]] || die "ports are numbers"
[ -z "$extra" ] || [ -r "$extra" ] || die "cannot read $extra"
controller_port=${controller_port:-$((port + 1))}
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
jars=${KAFKA_LIB:-$repository/.kafka/lib}/kafka-$KAFKA_VERSION

case $action in
  up | down | status) "$action" ;;
  *) usage ;;
esac
