"""What goes over the wire: events, their Avro schemas (one ``.avsc`` each), the strict codec, topics and signatures.

* :mod:`schemas.events`: the events as frozen dataclasses;
* :mod:`schemas.topics`: which topic carries which events, and how large they may be;
* :mod:`schemas.signing`: seal an event for a topic, open what came from one: most callers need nothing else;
* :mod:`schemas.codec`: one event to bytes and back, under it :mod:`~schemas.avro` (schemas and fingerprints),
  :mod:`~schemas.layout` (walks hostile bytes before anything is built of them), :mod:`~schemas.ranges` (what a
  field may hold) and :mod:`~schemas.text` (which characters, and how to quote hostile values).
"""
