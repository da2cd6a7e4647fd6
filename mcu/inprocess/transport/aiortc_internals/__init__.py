"""The private parts of aiortc and aioice that the SFU uses; modules outside this folder use none.

Written for aiortc 1.16 and aioice 0.13; ``tests/mcu/inprocess/transport/test_aiortc_internals.py`` fails when an
upgrade changes one of these:

- ``aioice.Connection.get_component_candidates`` is overridden, ``_protocols`` written: the only way to a port range and
  to loopback. ``_nominated`` and ``CandidatePair`` are read: this saves four coroutines per sent packet.
  ``_add_remote_candidate`` is called: the public coroutine does the same for an IP literal.
- ``aioice.Connection.connect``, ``check_complete``, ``check_start_task``, ``build_request`` and ``_valid_username`` and
  ``StunProtocol.request`` are overridden, ``_check_list``, ``_remote_candidates`` and ``_queue`` written,
  ``_early_checks`` read, ``check_state`` called: a client may begin another transport in place of its old one, which
  aioice does not support.
- ``aioice.ice.StunProtocol.datagram_received`` is overridden: SRTP is received directly, not after an attempt to parse
  it as STUN, through a queue and a task. Only STUN and DTLS reach aioice (an empty datagram would end it).
- ``RTCDtlsTransport``: ``_set_role``, ``_setup_srtp``, ``_rx_srtp``, ``_tx_srtp`` and ``_task`` are used:
  RTCPeerConnection, which uses them otherwise, decodes all media, cannot reject a media section, and negotiates only
  codecs that it can decode. The ICE transport is duck-typed: ``role``, ``_recv`` and ``_send`` are used.
- ``pylibsrtp.Session``: ``_cdata`` and ``_buffer`` are replaced. Their 1500 bytes leave 1356 for a packet, and some
  senders use more (GStreamer's payloaders 1400).
- ``_register_data_receiver`` is overridden: an exception in SCTP (aiortc asserts on received data) would end DTLS.
- ``aioice.Connection.data_received``, ``request_received`` and ``check_incoming``, and the handlers of chunks in
  ``RTCSctpTransport`` are overridden: they store received data, or spend CPU on it, without bound.
- ``RTCDataChannel`` counts a label in characters where RFC 8832 requires bytes: see ``ChannelLabel``.
"""
